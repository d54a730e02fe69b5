"""Brian2, imported without what it does to the process it is imported into."""

import signal
import warnings

_interrupt = signal.getsignal(signal.SIGINT)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what Brian2's own imports say of their future
    import brian2 as b2
    from brian2.codegen.runtime.cython_rt.extension_manager import get_cython_cache_dir
    from brian2.devices.device import auto_target, reset_device
# Brian2 takes Ctrl-C for itself, to end a run early as if all were well; it is the process's own.
signal.signal(signal.SIGINT, _interrupt)

__all__ = ["auto_target", "b2", "get_cython_cache_dir", "reset_device"]
