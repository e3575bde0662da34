"""Open files: the limit is raised as far as this user may, and a server that holds all it may is told from a dead one.

Each connection takes one. A server at its limit refuses everybody, its own supervisor too, though nothing in it is
broken; started again it would be full again.
"""

import contextlib
import resource

import psutil

# More than any machine has connections. A limit without end makes programs slow that close every number up to it.
MOST = 1 << 20
# Four stages, sessions and the server at rest take about 200; the rest is for a thousand callers.
NEEDED = 1280
# Of a server at its limit: files that it opens and closes by the way.
_SPARE = 4


def raise_limit() -> int:
    """Raise this process's soft limit of open files to the hard one, which its children inherit; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return limit()


def limit() -> int:
    """Read how many files this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else soft


def hard_limit() -> int:
    """Read how far this process may raise that itself."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if hard == resource.RLIM_INFINITY else hard


def shortage(found: int) -> str:
    """Say in one sentence that `found` open files are too few; "" where they are enough."""
    if found >= NEEDED:
        return ""
    return (
        f"{found} open files are allowed, and about {NEEDED} are needed for a thousand connections: more than fit"
        " shut everybody out. Raise the hard limit: ulimit -Hn, LimitNOFILE= of systemd, --ulimit nofile of a"
        " container."
    )


def is_full(pid: int) -> bool:
    """Tell whether a process holds as many files as it may; False for one that cannot be asked."""
    try:
        process = psutil.Process(pid)
        soft, _ = process.rlimit(psutil.RLIMIT_NOFILE)
        return bool(0 <= soft <= process.num_fds() + _SPARE)
    except psutil.Error:
        return False
