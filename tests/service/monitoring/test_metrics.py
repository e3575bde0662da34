import pytest

from auralsam2_client.errors import ServerFault, ServerUnavailable
from service.monitoring.metrics import ModelCounters, fetch, in_flight, parse, stage_times
from service.server.serving import free_ports

PAGE = """# HELP nv_inference_request_success Number of successful inference requests, all batch sizes
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="hiera",version="1"} 3
nv_inference_request_success{model="hiera",version="2"} 4
nv_inference_request_failure{model="hiera",reason="BACKEND",version="1"} 1
nv_inference_request_failure{model="hiera",reason="OTHER",version="1"} 2
nv_inference_request_duration_us{model="hiera",version="1"} 7.0e+3
nv_inference_queue_duration_us{model="hiera",version="1"} 700
nv_inference_compute_input_duration_us{model="hiera",version="1"} 70
nv_inference_compute_infer_duration_us{model="hiera",version="1"} 6000
nv_inference_compute_output_duration_us{model="hiera",version="1"} 7
nv_inference_request_success{model="vggish",version="1"} 5
nv_pinned_memory_pool_total_bytes 268435456
nv_cpu_utilization 0.48
"""


def test_versions_and_reasons_are_added_up() -> None:
    counters = parse(PAGE)
    assert counters["hiera"] == ModelCounters(7, 3, 7000, 700, 70, 6000, 7)
    assert counters["vggish"] == ModelCounters(success=5)


def test_a_stage_time_is_the_mean_of_what_was_added() -> None:
    after = {"hiera": ModelCounters(9, 3, 11000, 1700, 170, 8000, 107), "vggish": ModelCounters(success=5)}
    times = stage_times(parse(PAGE), after)
    assert set(times) == {"hiera"}
    hiera = times["hiera"]
    assert (hiera.num_requests, hiera.total_ms, hiera.queue_ms) == (2, 2.0, 0.5)
    assert (hiera.input_ms, hiera.infer_ms, hiera.output_ms) == (0.05, 1.0, 0.05)


def test_after_a_restart_all_of_the_new_counters_count() -> None:
    times = stage_times(parse(PAGE), {"hiera": ModelCounters(2, 0, 4000)})
    assert (times["hiera"].num_requests, times["hiera"].total_ms) == (2, 2.0)


def test_in_flight_is_what_a_stage_has_passed_on_and_nobody_answered() -> None:
    done = {"auralsam2": ModelCounters(3, 1), "vggish": ModelCounters(4), "hiera": ModelCounters(3, 1)}
    assert in_flight(done) == 0
    assert in_flight({**done, "vggish": ModelCounters(6)}) == 2
    assert in_flight({**done, "vggish": ModelCounters(4, pending=1)}) == 1
    assert in_flight({}) == 0


def test_in_flight_counts_a_sessions_clip_once_and_its_rounds_while_they_wait() -> None:
    done = {
        "auralsam2": ModelCounters(3),
        "auralsam2_features": ModelCounters(2, 1),
        "auralsam2_session": ModelCounters(40),
        "vggish": ModelCounters(5, 1),
        "hiera": ModelCounters(5),
        "sam2_decoder": ModelCounters(5),
    }
    assert in_flight(done) == 0
    assert in_flight({**done, "vggish": ModelCounters(6, 1)}) == 1
    assert in_flight({**done, "auralsam2_session": ModelCounters(40, pending=2)}) == 2


def test_a_page_that_is_not_the_servers_is_a_fault() -> None:
    with pytest.raises(ServerFault, match="no number"):
        parse('nv_inference_request_success{model="hiera"} many')


def test_no_server_is_said_with_the_address() -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}/metrics"
    with pytest.raises(ServerUnavailable, match=url):
        fetch(url, timeout_s=1)
