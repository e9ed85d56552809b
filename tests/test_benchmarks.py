"""Benchmarks run, at sizes that take no time: nothing else of the tests depends on them."""

import subprocess
import sys

from tests.conftest import ROOT

SMALL = """
from dataclasses import replace
from benchmarks import growth, memory, step, table
small = replace(step.MNIST, glimpses=2, height=20, width=20, align_units=8, infer_units=8, generate_units=8, latent=4)
step.MNIST = table.MNIST = growth.MNIST = small
step.CONFIGURATIONS["mnist"] = small, 23
table.BATCH, table.WORDS, table.medians.__defaults__ = 2, 3, (1,)
cpu = step.torch.device("cpu")
"""


def run(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", SMALL + code, *arguments], cwd=ROOT, env={"PYTHONPATH": "src", "OMP_NUM_THREADS": "1"},
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_step_against_the_reference():
    said = run("step.subprocess.run = lambda *_, **__: type('done', (), {'stdout': 'peak memory'})\nstep.main()",
               "--batch", "2", "--words", "3", "--repeats", "1", "--device", "cpu", "--checkpoint-every", "1").splitlines()
    assert said[0].startswith("mnist, batch 2, 3 words, float32")
    assert [line.split()[1] for line in said[1:4]] == ["text2image", "plain", "ratio"]
    assert said[4] == "peak memory"


def test_growth_a_sample_and_the_data_of_a_step():
    said = run("growth.SIZES, growth.PAPER = {'words': (3, 6)}, growth.PAPER | {'words': 3, 'batch': 2, 'canvas': 20, 'glimpses': 2}\n"
               "print(sorted(growth.measure(cpu)['words']))\n"
               "table.one_sample(cpu, captions=2)\n"
               "table.CONFIGURATIONS.clear()\n"
               "table.CONFIGURATIONS['mnist'] = small, 23\n"
               "table.captured_steps(cpu)\n"
               "table.MNIST = replace(small, height=60, width=60)\n"
               "table.idle_share(cpu)\n")
    assert said.startswith("[3, 6]\n")
    assert "cpu: mnist, images of 2 captions" in said
    assert "cpu: mnist, a captured step of 2, float32, against eager" in said
    assert "cpu: mnist, images and noise of a step" in said


def test_memory_against_the_size_of_the_data(tmp_path):
    said = run("memory.STEPS = 2\n"
               "memory.write(memory.Path(memory.sys.argv[1]), 2000)\n"
               "for where in ('file', 'memory'):\n"
               "    memory.train(memory.Path(memory.sys.argv[1]), where)\n"
               "memory.train = memory.measure = lambda count: {how: memory.Row(10**9, 1, 3, 4, 0.005, 0.006) for how in memory.HOW}\n"
               "memory.SIZES, memory.sys.argv[1:] = (7, 9), [memory.sys.argv[1] + '.png']\n"
               "memory.main()\n", str(tmp_path / "train.h5")).splitlines()
    for line in said[:2]:
        begun, peak, loading, batch, step = map(float, line.split())
        assert 0 < begun < peak
        assert loading > 0
        assert 0 < batch < step
    assert said[-1] == "| 9 | 1.00 | in memory | 3 | 2 | 4.00 | 5.0 | 6.0 |"
    assert (tmp_path / "train.h5.png").stat().st_size > 1000
