"""A download is whole and checked, or not there; and the next run recovers."""

import hashlib
import json
import random
import shutil
from types import SimpleNamespace

import download
import pytest
from download import DownloadError, fetch, need_space, only_one

CONTENT = random.Random(0).randbytes(700_000)
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def get(server, tmp_path):
    """Fetch /file as the real function does, but without waiting."""
    server.files["/file"] = CONTENT
    waits = []

    def call(*addresses, digest=DIGEST, **options):
        options = {"attempts": 3, "wait": waits.append, "timeout": 0.3, "progress": False} | options
        urls = [server.url(a) if a.startswith("/") else a for a in addresses or ("/file",)]
        return fetch(urls, tmp_path / "set.zip", digest=digest, **options)

    call.waits, call.folder, call.target = waits, tmp_path, tmp_path / "set.zip"
    return call


def left(folder):
    return sorted(f.name for f in folder.iterdir())


def ranges(server):
    return [wanted for _, wanted, _ in server.log]


def test_one_file(get, server):
    assert get().read_bytes() == CONTENT
    assert left(get.folder) == ["set.zip"] and len(server.log) == 1 and get.waits == []
    get()
    assert len(server.log) == 1  # it was there, and right


def test_dropped_connection_goes_on_where_it_stopped(get, server):
    server.plan = ["drop", "drop"]
    assert get().read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=350000-", "bytes=525000-"]
    assert get.waits == [0, 0] and left(get.folder) == ["set.zip"]  # it got on, so the waits do not grow


def test_a_later_run_goes_on_too(get, server):
    server.plan = ["drop", "503", "503"]
    with pytest.raises(DownloadError, match="failed 3 times, last because it answered 503"):
        get()
    assert left(get.folder) == ["set.zip.part", "set.zip.part.json"] and get.waits == [0, 1]
    assert get().read_bytes() == CONTENT
    assert ranges(server)[-1] == "bytes=350000-" and left(get.folder) == ["set.zip"]


def test_more_drops_than_attempts_do_no_harm_while_it_gets_on(get, server):
    server.plan = ["drop"] * 8
    assert get().read_bytes() == CONTENT


def test_server_that_ignores_ranges(get, server):
    server.plan = ["drop", "plain"]
    assert get().read_bytes() == CONTENT
    assert [status for _, _, status in server.log] == [200, 200]


@pytest.mark.parametrize("how", ["ok", "splice", "plain"])
@pytest.mark.parametrize("same_length", [True, False])
def test_changed_file_is_never_spliced(get, server, how, same_length):
    server.plan = ["drop", "503", "503"]
    with pytest.raises(DownloadError):
        get(digest=None)
    new = CONTENT[::-1] if same_length else CONTENT[::-1] + b"more"
    server.files["/file"], server.plan = new, [how]
    assert get(digest=None).read_bytes() == new


def test_partial_answer_from_elsewhere(get, server):
    server.plan = ["drop", "shifted"]
    assert get().read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=350000-", None]


def test_without_validators_nothing_is_continued(get, server):
    server.plan = ["bare"]
    server.files["/file"] = CONTENT
    part = get.folder / "set.zip.part"
    part.write_bytes(b"of something else")
    part.with_name("set.zip.part.json").write_text(
        json.dumps({"address": server.url("/file"), "etag": None, "modified": None, "size": 700_000})
    )
    assert get().read_bytes() == CONTENT and ranges(server) == [None]


def test_part_of_another_address_is_not_continued(get, server):
    server.files["/mirror"] = CONTENT
    server.plan = ["drop", "503", "503"]
    assert get("/file", "/mirror").read_bytes() == CONTENT
    assert server.log[-1] == ("/mirror", None, 200)


def test_whole_part_of_a_run_that_died_is_only_checked(get, server):
    server.plan = ["drop", "503", "503"]
    with pytest.raises(DownloadError):
        get()
    (get.folder / "set.zip.part").write_bytes(CONTENT)
    before = len(server.log)
    assert get().read_bytes() == CONTENT and len(server.log) == before


def test_unknown_range_begins_again(get, server):
    server.plan = ["drop", "416"]
    assert get().read_bytes() == CONTENT and ranges(server)[-1] is None


def test_cut_without_a_length(get, server, capsys):
    server.plan = ["cut_no_length"]
    with pytest.raises(DownloadError, match=r"delivered a file that has sha256:.*should have"):
        get()
    assert left(get.folder) == []
    server.plan = ["cut_no_length"]
    get(digest=None)  # nobody could know
    assert "may be cut short" in capsys.readouterr().out


def test_no_length_but_the_right_digest(get, server, capsys):
    server.plan = ["no_length"]
    assert get().read_bytes() == CONTENT and capsys.readouterr().out == ""


def test_without_digest_the_computed_one_is_shown(get, capsys):
    get(digest=None)
    assert f"no checksum is known to compare with; it has {DIGEST}" in capsys.readouterr().out


def test_wrong_bytes_are_thrown_away_and_the_mirror_asked(get, server):
    server.files["/mirror"] = CONTENT
    server.plan = ["wrong"]
    assert get("/file", "/mirror").read_bytes() == CONTENT
    server.plan = ["wrong"]
    get.target.unlink()
    with pytest.raises(DownloadError, match="thrown away"):
        get()
    assert left(get.folder) == []
    assert get().read_bytes() == CONTENT


def test_not_found_is_not_asked_again(get, server):
    server.files["/mirror"] = CONTENT
    with pytest.raises(DownloadError, match=r"/gone answered 404"):
        get("/gone")
    assert len(server.log) == 1 and get.waits == []
    assert get("/gone", "/mirror").read_bytes() == CONTENT


def test_busy_server(get, server):
    server.plan = ["503", "503"]
    assert get().read_bytes() == CONTENT and get.waits == [0, 1]


def test_silent_server(get, server):
    server.plan = ["hang"]
    assert get().read_bytes() == CONTENT and get.waits == [0]


def test_nobody_listens(get, server):
    with pytest.raises(DownloadError, match="could not be reached"):
        get("http://127.0.0.1:9/file")
    assert left(get.folder) == []


def test_wrong_file_that_is_there_is_moved_away(get, capsys):
    get.target.write_bytes(b"not this")
    assert get().read_bytes() == CONTENT
    assert (get.folder / "set.zip.wrong").read_bytes() == b"not this"
    assert "moved to set.zip.wrong" in capsys.readouterr().err


def test_md5_is_compared_too(get, server):
    assert get(digest="md5:" + hashlib.md5(CONTENT).hexdigest()).exists()
    get.target.unlink()
    with pytest.raises(DownloadError, match="should have md5:00"):
        get(digest="md5:00")


def test_interrupted(get, server, monkeypatch):
    real = download.tqdm

    class Interrupted(real):
        def update(self, n=1):
            raise KeyboardInterrupt

    monkeypatch.setattr(download, "tqdm", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        get()
    assert left(get.folder) == ["set.zip.part", "set.zip.part.json"]
    monkeypatch.setattr(download, "tqdm", real)
    assert get().read_bytes() == CONTENT
    assert ranges(server)[-1] == f"bytes={download.CHUNK}-"


def test_two_at_once(get, server):
    with only_one(get.target), pytest.raises(DownloadError, match="another process is working on"):
        get()
    assert server.log == [] and get().exists()


def test_full_disk(get, server):
    def full(folder):
        return SimpleNamespace(free=1000)

    with pytest.raises(DownloadError, match=r"700 kB are needed in .* and 1 kB are free"):
        get(usage=full)
    assert left(get.folder) == []
    with pytest.raises(DownloadError, match="are free"):
        need_space(get.folder / "not" / "yet", 10**18)
    need_space(get.folder, 1, shutil.disk_usage)


def test_other_addresses(get, tmp_path):
    (tmp_path / "secret").write_text("x")
    with pytest.raises(DownloadError, match="is no http or https address"):
        get(f"file://{tmp_path}/secret")
    with pytest.raises(DownloadError, match="there is no address"):
        fetch([], tmp_path / "x")


def test_redirect_to_an_unencrypted_address():
    request = SimpleNamespace(full_url="https://a.example/x")
    with pytest.raises(Exception, match="unencrypted"):
        download._NoDowngrade().redirect_request(request, None, 302, "", {}, "http://a.example/x")
