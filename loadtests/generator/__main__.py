"""Locust's own command on our locustfile. Its --help has our options too: `locust -f FILE --help` never reads FILE.

python -m loadtests.generator -u 8 -r 2 -t 60s --headless
"""

import sys

from locust import events
from locust.main import main

from loadtests.generator.driving import LOCUSTFILE
from loadtests.generator.options import add_options

if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv[1:]):
        events.init_command_line_parser.add_listener(add_options)
    sys.argv[:1] = ["locust", "-f", str(LOCUSTFILE)]
    main()
