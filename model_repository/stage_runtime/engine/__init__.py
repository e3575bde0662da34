"""The engine room: graphs on a CPU, a stage that runs one, and how a stage says no. `export` uses these names too."""

from .engines import AUTO as AUTO
from .engines import ENGINES as ENGINES
from .engines import INT8 as INT8
from .engines import OPENVINO_PRECISION as OPENVINO_PRECISION
from .engines import Array as Array
from .engines import Engine as Engine
from .engines import EngineError as EngineError
from .engines import cache_dir_from_environment as cache_dir_from_environment
from .engines import check_hash as check_hash
from .engines import check_precision as check_precision
from .engines import file_sha256 as file_sha256
from .engines import first_non_finite as first_non_finite
from .engines import load_engine as load_engine
from .engines import openvino_capabilities as openvino_capabilities
from .engines import resolve_precision as resolve_precision
