"""Programs are compiled quickly and kept from test to test; small data files for tasks to read."""

import gc
import gzip
import os
import struct
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook
from packaging.version import Version
from tiny_runs import TINY

MAPPINGS = 20_000

EMITTERS_UNTRIED = Version("0.11")
"""The jaxlib whose XLA may not know the flag; one that it does not know ends the process."""

SHAPED = (
    "credit", "functions", "learning", "levels.equilibrium", "levels.flow", "levels.heun",
    "levels.cells", "levels.online", "levels.rate", "levels.settling", "levels.shortening",
    "levels.simulator", "levels.stability",
    "networks.network", "comparison.scattering", "recordings.measures", "reports.subjects",
    "runs.costs", "runs.divergence", "runs.loop",
    "plasticity", "theory",
)  # fmt: skip
"""Where annotations of arrays say their shapes, which are checked whenever a test calls.

Not in `levels/spiking/`, which names none, and whose functions Brian2 takes as they are written;
nor in `networks/circuit.py`, whose calls are so many that runs would take a sixth longer; nor in
`tasks/`, which says itself in words what a user got wrong; nor in `stimuli.py`, whose arrays are
numpy's and, within a program, JAX's; nor in what scripts call, which says so as well.

By the import hook itself: the workers of pytest-xdist do not hand pytest's option for it on. An int
counts as a float, as it does for mypy.
"""

install_import_hook(
    [f"neurosim.{room}" for room in SHAPED],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

settings.register_profile(
    "brief",
    max_examples=25,
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
settings.register_profile(
    "thorough", settings.get_profile("brief"), max_examples=2000, derandomize=False
)
settings.load_profile("brief")


def pytest_configure(config):
    """Processes that tests start inherit the environment, and with it what is compiled.

    Few tests compute enough to gain from optimised code; they ask for `optimized`. Most time of the
    others goes into compiling, two thirds of it into XLA's newer way to write fused loops. Even
    what compiles at once is kept: reading it takes less, and it comes again in other tests.
    """
    gc.set_threshold(50_000, 20, 20)  # tracing makes many objects, few of which are garbage
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    if Version(version("jaxlib")) < EMITTERS_UNTRIED:
        flags = os.environ.get("XLA_FLAGS", ""), "--xla_cpu_use_fusion_emitters=false"
        os.environ["XLA_FLAGS"] = " ".join(flags).strip()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(config.cache.mkdir("jax"))
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


@pytest.fixture(scope="session", autouse=True)
def programs_are_kept():
    """Tests see hundreds of networks, between which a process would drop all that it compiled."""
    from neurosim.process import compiled

    compiled.KEPT, kept = 160, compiled.KEPT
    yield
    compiled.KEPT = kept


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def idx_images():
    """Five training and three test images of 2 x 3 pixels in three classes."""
    pixels = np.random.default_rng(1).integers(1, 256, size=(8, 2, 3))
    return pixels[:5], np.array([0, 1, 2, 1, 0]), pixels[5:], np.array([2, 0, 1])


@pytest.fixture(params=["", ".gz"], ids=["plain", "gzipped"])
def idx_folder(tmp_path, idx_images, request):
    for name, array in zip(
        ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"),
        idx_images,
        strict=True,
    ):
        write_idx(tmp_path / f"{name}-ubyte{request.param}", array)
    return tmp_path


@pytest.fixture
def cifar10_folder(tmp_path):
    """Four images a file, as the format has them: a label, then 1024 bytes of each color."""
    names = (*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin")
    for number, name in enumerate(names):
        images = []
        for k in range(4):
            colors = [bytes([12 * number + 3 * k + c] * 1024) for c in range(3)]
            images.append(bytes([(number + k) % 4]) + b"".join(colors))
        (tmp_path / name).write_bytes(b"".join(images))
    return tmp_path


@pytest.fixture
def npz_archive(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, x=np.random.default_rng(2).normal(3, 5, size=(40, 4)), y=np.arange(40) % 4)
    return path


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The tiny protocol in a folder of its own, which runs in chunks of one presentation."""
    monkeypatch.setattr("neurosim.runs.loop.CHUNK_SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(TINY)


@pytest.fixture
def double_precision():
    import jax  # not before the environment is set

    with jax.enable_x64(True):
        yield


@pytest.fixture
def optimized():
    """In which programs are compiled as a user's are."""
    import jax  # not before the environment is set

    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(autouse=True)
def few_mappings():
    """Every compiled program maps memory, of which a process on Linux has 65530 pieces at most."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MAPPINGS:
        import jax  # not before the environment is set

        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="module")
def double_throughout():
    """Numbers of JAX have 64 bits in a whole module, and in what its fixtures make."""
    import jax

    with jax.enable_x64(True):
        yield


@pytest.fixture
def own_cache(tmp_path_factory, monkeypatch):
    """Calibrations are kept for the tests, and only for them."""
    base = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(base))
