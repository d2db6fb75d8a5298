"""Point all action.yml files at the images of a release, for the commit that its tag names.

pin_images.py ghcr.io/OWNER/REPO sha256:ACTION-DIGEST sha256:CHECK-DIGEST [FOLDER]
"""

import os
import re
import sys

# Each file with the Dockerfile that it names in the source tree, and what follows the image's name.
FILES = (
    ("action.yml", "Dockerfile", ""),
    ("check/action.yml", "../Dockerfile.check", "-check"),
    ("plan/action.yml", "../Dockerfile.check", "-check"),
)
NAME = re.compile(r"ghcr\.io(/[a-z0-9]+([._-]+[a-z0-9]+)*){2}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class NotPinned(Exception):
    """What is given or found is not what a release is made of; nothing was written."""


def pin(text: str, dockerfile: str, reference: str) -> str:
    """Return the text with the one line `image: DOCKERFILE` replaced; raises NotPinned if there is not exactly one."""
    # Blanks only, never \s: that would reach over the end of the line.
    line = re.compile(rf"^( *image: *){re.escape(dockerfile)}(?: +#[^\r\n]*)?(?=\r?$)", re.MULTILINE)
    result, count = line.subn(rf"\g<1>docker://{reference}", text)
    if count != 1:
        raise NotPinned(f"{count} lines say `image: {dockerfile}`, there must be one")
    return result


def pin_all(image: str, digests: tuple[str, str], folder: str = ".") -> None:
    """Rewrite all files below the folder, or none; raises NotPinned."""
    if not NAME.fullmatch(image):
        raise NotPinned(f"{image!r} is not ghcr.io/OWNER/REPO in small letters")
    for digest in digests:
        if not DIGEST.fullmatch(digest):
            raise NotPinned(f"{digest!r} is not a digest: sha256: and 64 digits of 0-9 and a-f")
    if digests[0] == digests[1]:
        raise NotPinned("the Action and the check are two images, the digests are one")
    results = []
    for name, dockerfile, suffix in FILES:
        digest = digests[bool(suffix)]
        path = os.path.join(folder, name)
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
        try:
            results.append((path, pin(text, dockerfile, f"{image}{suffix}@{digest}")))
        except NotPinned as error:
            raise NotPinned(f"{name}: {error}") from None
    for path, text in results:
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(text)


def main(arguments: list[str]) -> int:
    """Return 0, or 2 with one sentence on stderr."""
    try:
        image, action, check, *rest = arguments
        (folder,) = rest or ["."]
    except ValueError:
        print((__doc__ or "").strip(), file=sys.stderr)
        return 2
    try:
        pin_all(image, (action, check), folder)
    except (NotPinned, OSError) as error:
        print(f"pin_images: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
