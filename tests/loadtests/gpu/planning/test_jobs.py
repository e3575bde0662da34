"""What is measured first, and how the minutes are shared out."""

from loadtests.cases.case import Case
from loadtests.gpu.clip.ways import FORMS
from loadtests.gpu.planning.jobs import COMPILED_ROWS, NETWORK_ROWS, OURS, PUBLISHED, Budget, plan

MAIN, OTHER = Case("hiera_base_plus", 1024, 5), Case("hiera_large", 1024, 5)


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_the_first_case_is_measured_whole_and_before_the_others() -> None:
    jobs = plan([MAIN, OTHER])
    assert [(job.kind, job.case) for job in jobs[:5]] == [
        ("network", MAIN),
        ("kernels", MAIN),
        ("stages", MAIN),
        ("compiled", MAIN),
        ("service", MAIN),
    ]
    assert jobs[5].rows == (PUBLISHED, OURS)
    assert {job.kind for job in jobs if job.case == OTHER} == {"network", "compiled"}


def test_every_row_has_a_name_of_its_own_and_its_form() -> None:
    keys = [job.key(row) for job in plan([MAIN, OTHER]) for row in job.rows]
    assert len(keys) == len(set(keys))
    assert {*NETWORK_ROWS, *COMPILED_ROWS} == set(FORMS)


def test_what_stands_first_takes_what_it_can_use() -> None:
    clock, jobs = Clock(), plan([MAIN])
    network, kernels = jobs[:2]
    budget = Budget(200, clock)
    assert budget.share_of(network) == network.most_s
    clock.now_s += network.most_s
    assert budget.share_of(kernels) == 200 - network.most_s
    # Less than it needs: it is not begun.
    clock.now_s += 200 - network.most_s - kernels.least_s + 1
    assert budget.share_of(kernels) is None
    clock.now_s += 1000
    assert budget.left_s == 0


def test_what_is_over_early_is_left_to_those_behind() -> None:
    clock, jobs = Clock(), plan([MAIN])
    budget = Budget(100, clock)
    clock.now_s += 1
    assert budget.share_of(jobs[1]) == jobs[1].most_s


def test_ten_minutes_begin_every_job_of_the_first_case() -> None:
    clock, begun = Clock(), []
    budget = Budget(590, clock)
    for job in plan([MAIN]):
        share = budget.share_of(job)
        if share is not None:
            begun.append(job.kind)
            clock.now_s += 0.6 * share
    assert begun == ["network", "kernels", "stages", "compiled", "service", "kernels"]
