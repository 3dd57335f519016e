"""Two processes never write to one folder: the second is told so in one line, and nothing that lies there is lost."""

import errno
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from mgan_jax import workdir

ROOT = Path(__file__).parent.parent
HOLDER = """
import sys, time
from pathlib import Path
from mgan_jax import workdir
with workdir.locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""
TARGET = ("main.py", "--config=configs/target.py", "--config.target.name=mlp", "--config.target.epochs=1")


def contents(path):
    return {str(p.relative_to(path)): p.read_bytes() if p.is_file() else None for p in sorted(path.rglob("*"))}


def start(*arguments):
    return subprocess.run([sys.executable, *TARGET, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=200)


def test_a_second_process_is_refused_and_a_kill_leaves_no_lock_behind(tmp_path):
    path = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLDER, path], cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        workdir.open_workdir(path, {"seed": 0})
        workdir.finish_stage(path, "one", {}, {"number": 1})
        before = contents(path)
        for more in ([], ["--overwrite"], ["--seeds=0,1"], ["--overwrite", "--seeds=1,2"]):
            done = start(f"--workdir={path}", *more)
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
            assert f"another process uses this folder, {path}; wait" in done.stderr
            assert contents(path) == before
        holder.kill()
    done = start(f"--workdir={path}")
    assert done.returncode == 0, done.stderr
    assert workdir.load_stage(path, "one").numbers == {"number": 1}


def test_the_lock_ends_with_its_context_and_with_an_error(tmp_path):
    path = tmp_path / "a" / "run"
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), workdir.locked(path):
            with pytest.raises(BlockingIOError, match="another process uses this folder"), workdir.locked(path):
                pass
            with workdir.locked(tmp_path / "other"):
                workdir.open_workdir(path, {"seed": 0}, overwrite=True)
            assert sorted(contents(path)) == [workdir.LOCK, workdir.CONFIG]
            raise ZeroDivisionError


def test_a_first_start_that_was_killed_with_the_lock_alone_is_no_obstacle(tmp_path):
    with workdir.locked(tmp_path):
        pass
    assert list(contents(tmp_path)) == [workdir.LOCK]
    with workdir.locked(tmp_path):
        workdir.open_workdir(tmp_path, {"seed": 0})


@pytest.mark.parametrize("name", ["thesis.tex", workdir.CONFIG])
def test_a_folder_that_is_no_run_gets_no_lock(name, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(workdir.WorkdirMismatch), workdir.locked(tmp_path):
        pass
    assert contents(tmp_path) == {name: b"mine"}


def test_a_place_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises((OSError, workdir.WorkdirMismatch), match="choose another --workdir"), workdir.locked(path):
            pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_nothing_can_be_locked_a_line_says_so_and_the_run_goes_on(code, tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(code, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with workdir.locked(tmp_path / "run"):
        workdir.open_workdir(tmp_path / "run", {"seed": 0})
    assert capsys.readouterr().err.endswith("start no second process on it\n")
