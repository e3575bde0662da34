"""The small network, its stages and its clip are those of the tests of exports."""

from tests.export.conftest import small_clip as small_clip
from tests.export.conftest import small_model as small_model
from tests.export.conftest import small_settings as small_settings
from tests.export.conftest import small_stages as small_stages
