from tfstrip_core.codecs.protos import meta_graph_pb2 as _meta_graph_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SavedModel(_message.Message):
    __slots__ = ("saved_model_schema_version", "meta_graphs")
    SAVED_MODEL_SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    META_GRAPHS_FIELD_NUMBER: _ClassVar[int]
    saved_model_schema_version: int
    meta_graphs: _containers.RepeatedCompositeFieldContainer[MetaGraph]
    def __init__(self, saved_model_schema_version: _Optional[int] = ..., meta_graphs: _Optional[_Iterable[_Union[MetaGraph, _Mapping]]] = ...) -> None: ...

class MetaGraph(_message.Message):
    __slots__ = ("meta_info_def", "graph_def", "saver_def", "collection_def", "signature_def", "asset_file_def", "object_graph_def")
    META_INFO_DEF_FIELD_NUMBER: _ClassVar[int]
    GRAPH_DEF_FIELD_NUMBER: _ClassVar[int]
    SAVER_DEF_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_DEF_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_DEF_FIELD_NUMBER: _ClassVar[int]
    ASSET_FILE_DEF_FIELD_NUMBER: _ClassVar[int]
    OBJECT_GRAPH_DEF_FIELD_NUMBER: _ClassVar[int]
    meta_info_def: MetaInfo
    graph_def: Graph
    saver_def: _meta_graph_pb2.Saver
    collection_def: _containers.RepeatedCompositeFieldContainer[_meta_graph_pb2.Collection]
    signature_def: _containers.RepeatedCompositeFieldContainer[Signature]
    asset_file_def: _containers.RepeatedCompositeFieldContainer[AssetFile]
    object_graph_def: ObjectGraph
    def __init__(self, meta_info_def: _Optional[_Union[MetaInfo, _Mapping]] = ..., graph_def: _Optional[_Union[Graph, _Mapping]] = ..., saver_def: _Optional[_Union[_meta_graph_pb2.Saver, _Mapping]] = ..., collection_def: _Optional[_Iterable[_Union[_meta_graph_pb2.Collection, _Mapping]]] = ..., signature_def: _Optional[_Iterable[_Union[Signature, _Mapping]]] = ..., asset_file_def: _Optional[_Iterable[_Union[AssetFile, _Mapping]]] = ..., object_graph_def: _Optional[_Union[ObjectGraph, _Mapping]] = ...) -> None: ...

class MetaInfo(_message.Message):
    __slots__ = ("tags", "tensorflow_version", "function_aliases")
    TAGS_FIELD_NUMBER: _ClassVar[int]
    TENSORFLOW_VERSION_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_ALIASES_FIELD_NUMBER: _ClassVar[int]
    tags: _containers.RepeatedScalarFieldContainer[str]
    tensorflow_version: str
    function_aliases: _containers.RepeatedCompositeFieldContainer[Alias]
    def __init__(self, tags: _Optional[_Iterable[str]] = ..., tensorflow_version: _Optional[str] = ..., function_aliases: _Optional[_Iterable[_Union[Alias, _Mapping]]] = ...) -> None: ...

class Alias(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: str
    def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Graph(_message.Message):
    __slots__ = ("node", "library", "debug_info")
    NODE_FIELD_NUMBER: _ClassVar[int]
    LIBRARY_FIELD_NUMBER: _ClassVar[int]
    DEBUG_INFO_FIELD_NUMBER: _ClassVar[int]
    node: _containers.RepeatedCompositeFieldContainer[_meta_graph_pb2.Node]
    library: Library
    debug_info: bytes
    def __init__(self, node: _Optional[_Iterable[_Union[_meta_graph_pb2.Node, _Mapping]]] = ..., library: _Optional[_Union[Library, _Mapping]] = ..., debug_info: _Optional[bytes] = ...) -> None: ...

class Library(_message.Message):
    __slots__ = ("function", "gradient", "registered_gradients")
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    function: _containers.RepeatedCompositeFieldContainer[Function]
    gradient: _containers.RepeatedCompositeFieldContainer[Gradient]
    registered_gradients: _containers.RepeatedCompositeFieldContainer[RegisteredGradient]
    def __init__(self, function: _Optional[_Iterable[_Union[Function, _Mapping]]] = ..., gradient: _Optional[_Iterable[_Union[Gradient, _Mapping]]] = ..., registered_gradients: _Optional[_Iterable[_Union[RegisteredGradient, _Mapping]]] = ...) -> None: ...

class Function(_message.Message):
    __slots__ = ("signature", "node_def", "attr")
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    NODE_DEF_FIELD_NUMBER: _ClassVar[int]
    ATTR_FIELD_NUMBER: _ClassVar[int]
    signature: Operation
    node_def: _containers.RepeatedCompositeFieldContainer[_meta_graph_pb2.Node]
    attr: _containers.RepeatedCompositeFieldContainer[_meta_graph_pb2.Attribute]
    def __init__(self, signature: _Optional[_Union[Operation, _Mapping]] = ..., node_def: _Optional[_Iterable[_Union[_meta_graph_pb2.Node, _Mapping]]] = ..., attr: _Optional[_Iterable[_Union[_meta_graph_pb2.Attribute, _Mapping]]] = ...) -> None: ...

class Operation(_message.Message):
    __slots__ = ("name", "input_arg")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INPUT_ARG_FIELD_NUMBER: _ClassVar[int]
    name: str
    input_arg: _containers.RepeatedCompositeFieldContainer[Argument]
    def __init__(self, name: _Optional[str] = ..., input_arg: _Optional[_Iterable[_Union[Argument, _Mapping]]] = ...) -> None: ...

class Argument(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class Gradient(_message.Message):
    __slots__ = ("function_name", "gradient_func")
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FUNC_FIELD_NUMBER: _ClassVar[int]
    function_name: str
    gradient_func: str
    def __init__(self, function_name: _Optional[str] = ..., gradient_func: _Optional[str] = ...) -> None: ...

class RegisteredGradient(_message.Message):
    __slots__ = ("gradient_func", "registered_op_type")
    GRADIENT_FUNC_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_OP_TYPE_FIELD_NUMBER: _ClassVar[int]
    gradient_func: str
    registered_op_type: str
    def __init__(self, gradient_func: _Optional[str] = ..., registered_op_type: _Optional[str] = ...) -> None: ...

class Signature(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: SignatureDef
    def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[SignatureDef, _Mapping]] = ...) -> None: ...

class SignatureDef(_message.Message):
    __slots__ = ("inputs", "outputs")
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    inputs: _containers.RepeatedCompositeFieldContainer[NamedTensor]
    outputs: _containers.RepeatedCompositeFieldContainer[NamedTensor]
    def __init__(self, inputs: _Optional[_Iterable[_Union[NamedTensor, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[NamedTensor, _Mapping]]] = ...) -> None: ...

class NamedTensor(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: TensorInfo
    def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[TensorInfo, _Mapping]] = ...) -> None: ...

class TensorInfo(_message.Message):
    __slots__ = ("name", "coo_sparse", "composite_tensor")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COO_SPARSE_FIELD_NUMBER: _ClassVar[int]
    COMPOSITE_TENSOR_FIELD_NUMBER: _ClassVar[int]
    name: str
    coo_sparse: CooSparse
    composite_tensor: Composite
    def __init__(self, name: _Optional[str] = ..., coo_sparse: _Optional[_Union[CooSparse, _Mapping]] = ..., composite_tensor: _Optional[_Union[Composite, _Mapping]] = ...) -> None: ...

class CooSparse(_message.Message):
    __slots__ = ("values_tensor_name", "indices_tensor_name", "dense_shape_tensor_name")
    VALUES_TENSOR_NAME_FIELD_NUMBER: _ClassVar[int]
    INDICES_TENSOR_NAME_FIELD_NUMBER: _ClassVar[int]
    DENSE_SHAPE_TENSOR_NAME_FIELD_NUMBER: _ClassVar[int]
    values_tensor_name: str
    indices_tensor_name: str
    dense_shape_tensor_name: str
    def __init__(self, values_tensor_name: _Optional[str] = ..., indices_tensor_name: _Optional[str] = ..., dense_shape_tensor_name: _Optional[str] = ...) -> None: ...

class Composite(_message.Message):
    __slots__ = ("components",)
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    components: _containers.RepeatedCompositeFieldContainer[TensorInfo]
    def __init__(self, components: _Optional[_Iterable[_Union[TensorInfo, _Mapping]]] = ...) -> None: ...

class AssetFile(_message.Message):
    __slots__ = ("tensor_info", "filename")
    TENSOR_INFO_FIELD_NUMBER: _ClassVar[int]
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    tensor_info: TensorInfo
    filename: str
    def __init__(self, tensor_info: _Optional[_Union[TensorInfo, _Mapping]] = ..., filename: _Optional[str] = ...) -> None: ...

class Any(_message.Message):
    __slots__ = ("type_url", "value")
    TYPE_URL_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    type_url: str
    value: bytes
    def __init__(self, type_url: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...

class ObjectGraph(_message.Message):
    __slots__ = ("nodes", "concrete_functions")
    NODES_FIELD_NUMBER: _ClassVar[int]
    CONCRETE_FUNCTIONS_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[Object]
    concrete_functions: _containers.RepeatedCompositeFieldContainer[ConcreteFunctionEntry]
    def __init__(self, nodes: _Optional[_Iterable[_Union[Object, _Mapping]]] = ..., concrete_functions: _Optional[_Iterable[_Union[ConcreteFunctionEntry, _Mapping]]] = ...) -> None: ...

class ConcreteFunctionEntry(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: ConcreteFunction
    def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ConcreteFunction, _Mapping]] = ...) -> None: ...

class ConcreteFunction(_message.Message):
    __slots__ = ("bound_inputs", "canonicalized_input_signature", "output_signature")
    BOUND_INPUTS_FIELD_NUMBER: _ClassVar[int]
    CANONICALIZED_INPUT_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    bound_inputs: _containers.RepeatedScalarFieldContainer[int]
    canonicalized_input_signature: bytes
    output_signature: bytes
    def __init__(self, bound_inputs: _Optional[_Iterable[int]] = ..., canonicalized_input_signature: _Optional[bytes] = ..., output_signature: _Optional[bytes] = ...) -> None: ...

class Object(_message.Message):
    __slots__ = ("children", "slot_variables", "user_object", "asset", "function", "variable", "bare_concrete_function", "constant", "resource", "captured_tensor", "saveable_objects", "registered_name", "serialized_user_proto", "dependencies", "registered_saver")
    CHILDREN_FIELD_NUMBER: _ClassVar[int]
    SLOT_VARIABLES_FIELD_NUMBER: _ClassVar[int]
    USER_OBJECT_FIELD_NUMBER: _ClassVar[int]
    ASSET_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    VARIABLE_FIELD_NUMBER: _ClassVar[int]
    BARE_CONCRETE_FUNCTION_FIELD_NUMBER: _ClassVar[int]
    CONSTANT_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_TENSOR_FIELD_NUMBER: _ClassVar[int]
    SAVEABLE_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_NAME_FIELD_NUMBER: _ClassVar[int]
    SERIALIZED_USER_PROTO_FIELD_NUMBER: _ClassVar[int]
    DEPENDENCIES_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_SAVER_FIELD_NUMBER: _ClassVar[int]
    children: _containers.RepeatedCompositeFieldContainer[Reference]
    slot_variables: _containers.RepeatedCompositeFieldContainer[Slot]
    user_object: UserObject
    asset: Asset
    function: SavedFunction
    variable: Variable
    bare_concrete_function: BareConcreteFunction
    constant: Constant
    resource: bytes
    captured_tensor: CapturedTensor
    saveable_objects: _containers.RepeatedCompositeFieldContainer[Saveable]
    registered_name: str
    serialized_user_proto: bytes
    dependencies: _containers.RepeatedCompositeFieldContainer[Reference]
    registered_saver: str
    def __init__(self, children: _Optional[_Iterable[_Union[Reference, _Mapping]]] = ..., slot_variables: _Optional[_Iterable[_Union[Slot, _Mapping]]] = ..., user_object: _Optional[_Union[UserObject, _Mapping]] = ..., asset: _Optional[_Union[Asset, _Mapping]] = ..., function: _Optional[_Union[SavedFunction, _Mapping]] = ..., variable: _Optional[_Union[Variable, _Mapping]] = ..., bare_concrete_function: _Optional[_Union[BareConcreteFunction, _Mapping]] = ..., constant: _Optional[_Union[Constant, _Mapping]] = ..., resource: _Optional[bytes] = ..., captured_tensor: _Optional[_Union[CapturedTensor, _Mapping]] = ..., saveable_objects: _Optional[_Iterable[_Union[Saveable, _Mapping]]] = ..., registered_name: _Optional[str] = ..., serialized_user_proto: _Optional[bytes] = ..., dependencies: _Optional[_Iterable[_Union[Reference, _Mapping]]] = ..., registered_saver: _Optional[str] = ...) -> None: ...

class Reference(_message.Message):
    __slots__ = ("node_id", "local_name")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    LOCAL_NAME_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    local_name: str
    def __init__(self, node_id: _Optional[int] = ..., local_name: _Optional[str] = ...) -> None: ...

class Slot(_message.Message):
    __slots__ = ("original_variable_node_id", "slot_name", "slot_variable_node_id")
    ORIGINAL_VARIABLE_NODE_ID_FIELD_NUMBER: _ClassVar[int]
    SLOT_NAME_FIELD_NUMBER: _ClassVar[int]
    SLOT_VARIABLE_NODE_ID_FIELD_NUMBER: _ClassVar[int]
    original_variable_node_id: int
    slot_name: str
    slot_variable_node_id: int
    def __init__(self, original_variable_node_id: _Optional[int] = ..., slot_name: _Optional[str] = ..., slot_variable_node_id: _Optional[int] = ...) -> None: ...

class UserObject(_message.Message):
    __slots__ = ("identifier",)
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    identifier: str
    def __init__(self, identifier: _Optional[str] = ...) -> None: ...

class Asset(_message.Message):
    __slots__ = ("asset_file_def_index",)
    ASSET_FILE_DEF_INDEX_FIELD_NUMBER: _ClassVar[int]
    asset_file_def_index: int
    def __init__(self, asset_file_def_index: _Optional[int] = ...) -> None: ...

class SavedFunction(_message.Message):
    __slots__ = ("concrete_functions", "function_spec")
    CONCRETE_FUNCTIONS_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_SPEC_FIELD_NUMBER: _ClassVar[int]
    concrete_functions: _containers.RepeatedScalarFieldContainer[str]
    function_spec: bytes
    def __init__(self, concrete_functions: _Optional[_Iterable[str]] = ..., function_spec: _Optional[bytes] = ...) -> None: ...

class BareConcreteFunction(_message.Message):
    __slots__ = ("concrete_function_name", "argument_keywords", "allowed_positional_arguments", "function_spec")
    CONCRETE_FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENT_KEYWORDS_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_POSITIONAL_ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_SPEC_FIELD_NUMBER: _ClassVar[int]
    concrete_function_name: str
    argument_keywords: _containers.RepeatedScalarFieldContainer[str]
    allowed_positional_arguments: int
    function_spec: bytes
    def __init__(self, concrete_function_name: _Optional[str] = ..., argument_keywords: _Optional[_Iterable[str]] = ..., allowed_positional_arguments: _Optional[int] = ..., function_spec: _Optional[bytes] = ...) -> None: ...

class Constant(_message.Message):
    __slots__ = ("operation",)
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    operation: str
    def __init__(self, operation: _Optional[str] = ...) -> None: ...

class CapturedTensor(_message.Message):
    __slots__ = ("name", "concrete_function")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONCRETE_FUNCTION_FIELD_NUMBER: _ClassVar[int]
    name: str
    concrete_function: str
    def __init__(self, name: _Optional[str] = ..., concrete_function: _Optional[str] = ...) -> None: ...

class Variable(_message.Message):
    __slots__ = ("dtype", "shape", "name", "experimental_distributed_variable_components")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENTAL_DISTRIBUTED_VARIABLE_COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    dtype: int
    shape: _meta_graph_pb2.Shape
    name: str
    experimental_distributed_variable_components: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, dtype: _Optional[int] = ..., shape: _Optional[_Union[_meta_graph_pb2.Shape, _Mapping]] = ..., name: _Optional[str] = ..., experimental_distributed_variable_components: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Saveable(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: SaveableFunctions
    def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[SaveableFunctions, _Mapping]] = ...) -> None: ...

class SaveableFunctions(_message.Message):
    __slots__ = ("save_function", "restore_function")
    SAVE_FUNCTION_FIELD_NUMBER: _ClassVar[int]
    RESTORE_FUNCTION_FIELD_NUMBER: _ClassVar[int]
    save_function: int
    restore_function: int
    def __init__(self, save_function: _Optional[int] = ..., restore_function: _Optional[int] = ...) -> None: ...

class KerasMetadata(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[KerasNode]
    def __init__(self, nodes: _Optional[_Iterable[_Union[KerasNode, _Mapping]]] = ...) -> None: ...

class KerasNode(_message.Message):
    __slots__ = ("node_id", "node_path", "identifier", "metadata")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_PATH_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    node_id: int
    node_path: str
    identifier: str
    metadata: str
    def __init__(self, node_id: _Optional[int] = ..., node_path: _Optional[str] = ..., identifier: _Optional[str] = ..., metadata: _Optional[str] = ...) -> None: ...
