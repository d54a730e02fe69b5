"""Brian2, imported without what it does to the process it is imported into."""

import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def _apart() -> Iterator[None]:
    """In which Brian2 does not take Ctrl-C for itself, to end a run early as if all were well.

    Ctrl-C is the process's own; and in another thread than the first, as in a worker of Dask, to
    take it would be an error.
    """
    module: Any = signal
    take = module.signal
    module.signal = lambda *_: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Brian2's own imports say of their future
            yield
    finally:
        module.signal = take


with _apart():
    import brian2 as b2
    from brian2.codegen.runtime.cython_rt.extension_manager import get_cython_cache_dir
    from brian2.devices.device import auto_target, reset_device

__all__ = ["auto_target", "b2", "get_cython_cache_dir", "reset_device"]
