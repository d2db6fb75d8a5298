"""Protocol buffers under our own names; the modules are generated from the .proto files beside them (make protos)."""
