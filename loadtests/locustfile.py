"""For locust: `locust -f loadtests/locustfile.py --headless --host HOST:PORT`; the parts are in `loadtests/traffic`.

`--help` lists what can be sent (group "traffic"); `--processes N`, or `--master` and `--worker`, share it out.
"""

from locust import events

from loadtests.traffic.options import add_arguments
from loadtests.traffic.users import Caller, Shape, begin

__all__ = ["Caller", "Shape"]

events.init_command_line_parser.add_listener(add_arguments)
events.init.add_listener(begin)
