"""Downloads against a server on this machine that misbehaves on request."""

import contextlib
import email.utils
import hashlib
import http.server
import re
import resource
import socket
import sys
import threading
import time
import urllib.error
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest

from keras_resnet.weights import download as of_records
from keras_resnet.weights import fetch as module
from keras_resnet.weights.download import cache_path, download
from keras_resnet.weights.fetch import DownloadError, fetch
from keras_resnet.weights.records import get_record

CONTENT = bytes(range(256)) * 12_000  # 3 MB: three chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
OTHER = "0" * 64


@dataclass
class Page:
    """What the server answers for a path."""

    content: bytes = CONTENT
    status: int = 200
    headers: dict = field(default_factory=dict)
    ranges: bool = True  # honour the Range header
    range_offset: int = 0  # answer from a wrong byte
    cut: int | None = None  # close the connection after this many bytes
    length: bool = True  # send Content-Length
    chunked: bool = False
    wait: float = 0.0  # seconds before each answer
    endless: float | None = None  # send chunks for ever, with this pause


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.log.append((self.path, asked))
        page = self.server.pages.get(self.path, Page(b"", status=404))
        if isinstance(page, list):  # one after another; the last one stays
            page = page.pop(0) if len(page) > 1 else page[0]
        time.sleep(page.wait)
        body, status, headers = page.content, page.status, dict(page.headers)
        if asked and page.ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(body):
                body, status = b"", 416
            else:
                start += page.range_offset
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                body, status = body[start:], 206
        if page.chunked:
            self.protocol_version = "HTTP/1.1"
            headers |= {"Transfer-Encoding": "chunked", "Connection": "close"}
        elif page.length:
            headers["Content-Length"] = str(len(body))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        sent = body if page.cut is None else body[: page.cut]
        if page.chunked:
            sent = b"%x\r\n%s\r\n" % (len(body), sent) + (b"0\r\n\r\n" if page.cut is None else b"")
        with contextlib.suppress(ConnectionError):  # a client that has heard enough
            self.end_headers()
            while page.endless is not None:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body))
                time.sleep(page.endless)
            self.wfile.write(sent)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.pages, server.log = {}, []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights" / "net.pth"


def beside(path):
    """The names in the folder but for the lock, which stays."""
    return sorted(file.name for file in path.parent.iterdir() if file.suffix != ".lock")


def cut_short(server, path, **options):
    """A first try of which 1 MB arrives."""
    server.pages["/net.pth"] = Page(cut=1_000_000)
    with pytest.raises(DownloadError, match=r"ended after 1,000,000 of 3,072,000 bytes") as caught:
        fetch(f"{server.url}/net.pth", path, **options)
    assert f"{server.url}/net.pth" in str(caught.value)


@pytest.mark.parametrize("checksum", [dict(sha256=SHA256), dict(sha256=SHA256[:8].upper()), dict(md5=MD5)])
def test_the_whole_file_arrives_under_its_name_only(server, path, checksum):
    server.pages["/net.pth"] = Page()
    steps = []
    got = fetch(f"{server.url}/net.pth", path, **checksum, progress=lambda *step: steps.append(step))
    assert got == path
    assert path.read_bytes() == CONTENT
    assert beside(path) == ["net.pth"]
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)


def test_a_file_that_is_there_is_not_fetched_again(server, path):
    server.pages["/net.pth"] = Page()
    for _ in range(2):
        fetch(f"{server.url}/net.pth", path, sha256=SHA256)
    assert len(server.log) == 1


@pytest.mark.parametrize("checksum", [dict(sha256=SHA256), {}])
def test_a_cut_transfer_keeps_its_part_and_is_continued(server, path, checksum):
    cut_short(server, path, **checksum)
    assert beside(path) == ["net.pth.part"]
    assert (path.parent / "net.pth.part").read_bytes() == CONTENT[:1_000_000]
    server.pages["/net.pth"] = Page(headers={"ETag": f'"{SHA256}"'})
    fetch(f"{server.url}/net.pth", path, **checksum)
    assert path.read_bytes() == CONTENT
    assert [asked for _, asked in server.log] == [None, "bytes=1000000-"]


@pytest.mark.parametrize(
    "page, requests",
    [
        (Page(ranges=False), 2),  # answers 200: that is used from its beginning
        (Page(range_offset=5), 3),
        (Page(headers={"Content-Range": "nonsense"}, status=206, ranges=False), 3),
    ],
    ids=["no ranges", "another byte", "nonsense"],
)
def test_a_server_that_cannot_continue_starts_again(server, path, page, requests):
    cut_short(server, path, sha256=SHA256)
    server.pages["/net.pth"] = page
    if page.status == 206:
        with pytest.raises(DownloadError, match=r"net.pth: the server sends no whole file"):
            fetch(f"{server.url}/net.pth", path, sha256=SHA256)
    else:
        fetch(f"{server.url}/net.pth", path, sha256=SHA256)
        assert path.read_bytes() == CONTENT
    assert len(server.log) == requests


def test_without_any_checksum_a_part_is_not_continued(server, path):
    cut_short(server, path)
    server.pages["/net.pth"] = Page(content=CONTENT[::-1])  # another version by now
    fetch(f"{server.url}/net.pth", path)
    assert path.read_bytes() == CONTENT[::-1]
    assert [asked for _, asked in server.log] == [None, "bytes=1000000-", None]


def test_a_part_that_is_too_long_starts_again(server, path):
    server.pages["/net.pth"] = Page()
    path.parent.mkdir()
    (path.parent / "net.pth.part").write_bytes(CONTENT + b"more")
    fetch(f"{server.url}/net.pth", path, sha256=SHA256)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "checksum, got",
    [(dict(sha256=OTHER), SHA256), (dict(sha256=OTHER[:8]), SHA256), (dict(md5=OTHER[:32]), MD5)],
)
def test_a_wrong_checksum_leaves_no_file(server, path, checksum, got):
    server.pages["/net.pth"] = Page()
    with pytest.raises(DownloadError, match=r"wrong checksum: expected") as caught:
        fetch(f"{server.url}/net.pth", path, **checksum)
    for part in (f"{server.url}/net.pth", *checksum.values(), got):
        assert part in str(caught.value)
    assert beside(path) == []


def test_a_continued_part_of_another_file_is_found(server, path):
    server.pages["/net.pth"] = Page()
    path.parent.mkdir()
    (path.parent / "net.pth.part").write_bytes(b"\0" * 1_000_000)
    with pytest.raises(DownloadError, match=r"wrong checksum"):
        fetch(f"{server.url}/net.pth", path, sha256=SHA256)
    assert beside(path) == []
    fetch(f"{server.url}/net.pth", path, sha256=SHA256)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("digest", [dict(sha256="abc"), dict(sha256="x" * 64), dict(md5=SHA256)])
def test_a_digest_that_is_none_is_refused(path, digest):
    with pytest.raises(ValueError, match=r"is no full digest"):
        fetch("http://127.0.0.1/net.pth", path, **digest)


@pytest.mark.parametrize("status", [403, 404, 500])
def test_errors_of_the_server_name_the_url(server, path, status, monkeypatch):
    monkeypatch.setattr(module, "PAUSES", (0.0,))
    server.pages["/net.pth"] = Page(b"sorry", status=status)
    with pytest.raises(DownloadError, match=rf"{server.url}/net.pth: the server answers {status}"):
        fetch(f"{server.url}/net.pth", path)
    assert beside(path) == []


def test_no_network_names_the_url(monkeypatch, path):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/net.pth"  # bound, but nobody listens
        with pytest.raises(DownloadError, match=rf"{url}: no answer: .*refused"):
            fetch(url, path)


def test_a_server_that_falls_silent_is_given_up(server, path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    server.pages["/net.pth"] = Page(wait=0.5)
    with pytest.raises(DownloadError, match=r"net.pth: no answer: .*timed out"):
        fetch(f"{server.url}/net.pth", path)


@pytest.mark.parametrize("url", ["ftp://host/net.pth", "file:///etc/passwd", "net.pth", "http://host/a b"])
def test_only_http_is_fetched(path, url):
    with pytest.raises(DownloadError, match=r"only http:// and https://") as caught:
        fetch(url, path)
    assert repr(url) in str(caught.value)
    assert not path.parent.exists()


def test_redirects_are_followed_and_ranges_with_them(server, path):
    cut_short(server, path, sha256=SHA256)
    server.pages["/net.pth"] = Page(b"", status=302, headers={"Location": "/there"}, ranges=False)
    server.pages["/there"] = Page()
    fetch(f"{server.url}/net.pth", path, sha256=SHA256)
    assert path.read_bytes() == CONTENT
    assert server.log[1:] == [("/net.pth", "bytes=1000000-"), ("/there", "bytes=1000000-")]


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/net.pth", "file:///etc/passwd"])
def test_redirects_elsewhere_are_refused(server, path, target):
    server.pages["/net.pth"] = Page(b"", status=302, headers={"Location": target})
    with pytest.raises(DownloadError, match=rf"{server.url}/net.pth: .*302.*{target}"):
        fetch(f"{server.url}/net.pth", path)


def test_redirects_from_https_to_http_are_refused():
    request = module.urllib.request.Request("https://host/net.pth")
    with pytest.raises(urllib.error.HTTPError, match=r"redirect to http://host/net.pth, which is not"):
        module._Redirects().redirect_request(request, None, 302, "Found", {}, "http://host/net.pth")


def test_endless_redirects_end(server, path):
    server.pages["/net.pth"] = Page(b"", status=302, headers={"Location": "/net.pth"})
    with pytest.raises(DownloadError, match=r"net.pth: the server answers 302"):
        fetch(f"{server.url}/net.pth", path)


def hub(server, linked=SHA256, **page):
    """A file as Hugging Face serves it: the digest comes with the redirect, then a wrong one."""
    headers = {"Location": "/storage", "X-Linked-ETag": f'"{linked}"', "ETag": f'"{"a" * 40}"'}
    server.pages["/moved"] = Page(b"", status=307, headers={"Location": "/net.pth"}, ranges=False)
    server.pages["/net.pth"] = Page(b"", status=302, headers=headers, ranges=False)
    server.pages["/storage"] = Page(headers={"ETag": f'"{OTHER}"'}, **page)
    return f"{server.url}/moved"


def test_the_digest_of_a_hub_file_is_checked_and_remembered(server, path):
    url = hub(server)
    fetch(url, path)
    assert beside(path) == ["net.pth", "net.pth.sha256"]
    assert (path.parent / "net.pth.sha256").read_text() == f"{SHA256}  net.pth\n"
    flip_a_bit(path)
    fetch(url, path)
    assert path.read_bytes() == CONTENT
    assert len(server.log) == 6


def test_a_hub_file_that_differs_from_its_digest_is_refused(server, path):
    url = hub(server, linked="1" * 64)
    with pytest.raises(DownloadError, match=rf"expected sha256 {'1' * 64}, got {SHA256}"):
        fetch(url, path)
    assert beside(path) == []


def test_a_hub_file_is_continued(server, path):
    url = hub(server, cut=1_000_000)
    with pytest.raises(DownloadError, match=r"1,000,000 of"):
        fetch(url, path)
    server.pages["/storage"].cut = None
    fetch(url, path)
    assert path.read_bytes() == CONTENT
    assert server.log[-1] == ("/storage", "bytes=1000000-")


def test_the_etag_behind_a_redirect_is_no_digest(server, path):
    hub(server)
    del server.pages["/net.pth"].headers["X-Linked-ETag"]
    fetch(f"{server.url}/net.pth", path)
    assert path.read_bytes() == CONTENT


def test_an_etag_of_another_length_is_no_digest(server, path):
    server.pages["/net.pth"] = Page(headers={"ETag": f'"{"b" * 40}"'})
    fetch(f"{server.url}/net.pth", path)
    assert (path.parent / "net.pth.sha256").read_text().startswith(SHA256)


def test_an_answer_that_a_proxy_changed_is_refused(server, path):
    server.pages["/net.pth"] = Page(status=203)
    with pytest.raises(DownloadError, match=r"the server sends no whole file"):
        fetch(f"{server.url}/net.pth", path)


def test_a_file_without_length_or_digest_cannot_be_told_from_a_cut_one(server, path):
    server.pages["/net.pth"] = Page(length=False)
    with pytest.raises(DownloadError, match=r"no whole file of known length"):
        fetch(f"{server.url}/net.pth", path)
    server.pages["/net.pth"].headers["ETag"] = SHA256
    fetch(f"{server.url}/net.pth", path)
    assert path.read_bytes() == CONTENT


def test_chunks_tell_their_own_end(server, path):
    server.pages["/net.pth"] = Page(chunked=True, cut=1000)
    with pytest.raises(DownloadError, match=r"net.pth: the transfer broke off: .*IncompleteRead"):
        fetch(f"{server.url}/net.pth", path)
    assert "net.pth" not in beside(path)
    server.pages["/net.pth"] = Page(chunked=True)
    fetch(f"{server.url}/net.pth", path)
    assert path.read_bytes() == CONTENT


def test_a_full_disk_leaves_no_half_file(server, path):
    server.pages["/net.pth"] = Page()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, hard))
    try:
        with pytest.raises(DownloadError, match=r"net.pth: File too large; make room") as caught:
            fetch(f"{server.url}/net.pth", path, sha256=SHA256)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(path) in str(caught.value)
    assert beside(path) == ["net.pth.part"]
    fetch(f"{server.url}/net.pth", path, sha256=SHA256)
    assert path.read_bytes() == CONTENT
    assert server.log[-1] == ("/net.pth", "bytes=1500000-")


def test_a_folder_that_cannot_be_made_is_named(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match=rf"{tmp_path}/file/net.pth: Not a directory|File exists"):
        fetch(f"{server.url}/net.pth", tmp_path / "file" / "net.pth")


def test_two_threads_share_one_download(server, path):
    server.pages["/net.pth"] = Page(wait=0.2)
    start, results = threading.Barrier(4), []

    def work():
        start.wait()
        results.append(fetch(f"{server.url}/net.pth", path).read_bytes() == CONTENT)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4
    assert len(server.log) == 1


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[1234] ^= 1
    path.write_bytes(data)
    # As in a new process: the clock of a file system may be too coarse to tell the write.
    module._digest_once.cache_clear()


@pytest.fixture
def record(server):
    server.pages["/net-1.pth"] = Page()
    url = f"{server.url}/net-1.pth"
    return replace(get_record("torchvision/resnet18.imagenet1k_v1"), url=url, sha256=SHA256[:8])


def test_a_record_is_kept_by_its_source(record, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("KERAS_RESNET_OFFLINE", raising=False)
    monkeypatch.setenv("KERAS_RESNET_HOME", str(tmp_path))
    got = download(record)
    assert got == cache_path(record) == tmp_path / "weights" / "torchvision" / "net-1.pth"
    assert got.read_bytes() == CONTENT
    assert download(record, tmp_path / "mine") == tmp_path / "mine" / "torchvision" / "net-1.pth"
    assert capsys.readouterr().err == ""


def test_the_cache_is_in_the_home_by_default(record, monkeypatch, tmp_path):
    monkeypatch.delenv("KERAS_RESNET_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_path(record) == tmp_path / ".cache/keras_resnet/weights/torchvision/net-1.pth"


@pytest.mark.parametrize("online", [True, False])
def test_a_flipped_bit_in_the_cache_is_found(record, tmp_path, monkeypatch, online):
    monkeypatch.delenv("KERAS_RESNET_OFFLINE", raising=False)
    path = download(record, tmp_path)
    flip_a_bit(path)
    if online:
        assert download(record, tmp_path).read_bytes() == CONTENT
    else:
        with pytest.raises(DownloadError, match=rf"{path}: its checksum is wrong"):
            download(record, tmp_path, offline=True)


def test_offline_a_missing_file_says_what_to_put_where(record, server, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_RESNET_OFFLINE", "1")
    with pytest.raises(DownloadError, match=r"there is no such file") as caught:
        download(record, tmp_path)
    assert record.url in str(caught.value)
    assert str(tmp_path / "torchvision" / "net-1.pth") in str(caught.value)
    assert server.log == []
    path = download(record, tmp_path, offline=False)
    assert download(record, tmp_path) == path
    monkeypatch.setenv("KERAS_RESNET_OFFLINE", "0")
    path.unlink()
    assert download(record, tmp_path) == path


@pytest.mark.parametrize(
    "change",
    [
        dict(url="https://host/.."),
        dict(url="https://host/"),
        dict(url="https://host/a%2f..%2fb"),
        dict(url="https://host/model.safetensors", name="timm/../../evil"),
        dict(name="../evil"),
    ],
    ids=str,
)
def test_a_record_cannot_leave_the_cache(record, tmp_path, change):
    with pytest.raises(DownloadError, match=r"is no file name of letters"):
        download(replace(record, **change), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_bar_is_drawn_ten_times_a_second(monkeypatch, capsys):
    seconds = iter((0.0, 0.05, 0.15, 0.2))
    monkeypatch.setattr(of_records, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with of_records._bar("net", True) as report:
        for done in (10, 15, 25, 40):
            report(done * 10**6, 40 * 10**6)
    wanted = ["net: 25 % of 40.0 MB, 0.0 MB/s", "net: 62 % of 40.0 MB, 100.0 MB/s"]
    wanted += ["net: 100 % of 40.0 MB, 150.0 MB/s"]
    drawn = capsys.readouterr().err
    assert [re.sub(" +", " ", line).strip() for line in drawn.split("\r")[1:]] == wanted


def test_a_terminal_gets_a_bar(record, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("KERAS_RESNET_OFFLINE", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    download(record, tmp_path)
    drawn = capsys.readouterr().err
    assert re.search(r"\rnet-1\.pth: 100 % of 3\.1 MB, [\d.]+ MB/s \n$", drawn)
    download(record, tmp_path)
    download(record, tmp_path / "silent", progress=False)
    assert capsys.readouterr().err == ""


# Servers that are busy, endless or slow.


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(server, path, monkeypatch, status):
    pauses = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    server.pages["/net.pth"] = [Page(status=status)] * 2 + [Page()]
    fetch(f"{server.url}/net.pth", path, sha256=SHA256)
    assert path.read_bytes() == CONTENT
    assert [pause for pause in pauses if pause] == [1.0, 4.0]


def test_a_server_that_stays_busy_is_asked_three_more_times(server, path, monkeypatch):
    pauses = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    server.pages["/net.pth"] = Page(status=503)
    with pytest.raises(DownloadError, match="the server answers 503 Service Unavailable"):
        fetch(f"{server.url}/net.pth", path, sha256=SHA256)
    assert (len(server.log), [pause for pause in pauses if pause]) == (4, [1.0, 4.0, 16.0])


def test_other_errors_are_final(server, path):
    server.pages["/net.pth"] = Page(status=403)
    with pytest.raises(DownloadError, match="the server answers 403"):
        fetch(f"{server.url}/net.pth", path, sha256=SHA256)
    assert len(server.log) == 1


@pytest.mark.parametrize("asked, pauses", [("7", [7.0]), ("0", [1.0]), ("nonsense", [1.0]), ("100000", [])])
def test_the_server_says_how_long_to_wait(server, path, monkeypatch, asked, pauses):
    slept = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    server.pages["/net.pth"] = [Page(status=429, headers={"Retry-After": asked}), Page()]
    with contextlib.nullcontext() if pauses else pytest.raises(DownloadError, match="answers 429"):
        fetch(f"{server.url}/net.pth", path, sha256=SHA256)
    assert [pause for pause in slept if pause] == pauses


def test_the_time_to_wait_for_may_be_a_date(server, path, monkeypatch):
    slept = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    date = email.utils.formatdate(time.time() + 60, usegmt=True)
    server.pages["/net.pth"] = [Page(status=503, headers={"Retry-After": date}), Page()]
    fetch(f"{server.url}/net.pth", path, sha256=SHA256)
    assert 50 < sum(slept) <= 60


def test_an_endless_body_is_cut_and_removed(server, path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_UNDECLARED", 20_000_000)
    server.pages["/net.pth"] = Page(chunked=True, endless=0)
    with pytest.raises(DownloadError, match="sends more than 20,000,000 bytes; what came was removed"):
        fetch(f"{server.url}/net.pth", path, sha256=SHA256)
    assert beside(path) == []


def test_a_body_is_not_longer_than_declared(server, path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST", len(CONTENT) - 1)
    server.pages["/net.pth"] = Page()
    with pytest.raises(DownloadError, match=r"declares 3,072,000 bytes; at most 3,071,999 are downloaded"):
        fetch(f"{server.url}/net.pth", path, sha256=SHA256)


def test_a_file_that_has_no_room_is_not_begun(server, path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    server.pages["/net.pth"] = Page()
    with pytest.raises(DownloadError, match="3,072,000 bytes are to come, and 1,000 are free; make room"):
        fetch(f"{server.url}/net.pth", path, sha256=SHA256)


def test_a_slow_server_is_left_and_the_next_try_continues(server, path, monkeypatch):
    monkeypatch.setattr(module, "GRACE", 0.3)
    monkeypatch.setattr(module, "SLOWEST", 1e12)
    server.pages["/net.pth"] = Page(CONTENT[:1], chunked=True, endless=0.02)
    begin = time.monotonic()
    with pytest.raises(DownloadError, match=r"too slow to wait for the end; .*net\.pth\.part is kept"):
        fetch(f"{server.url}/net.pth", path, sha256=SHA256)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    "location", ["http://[::1", "http://[::1]:x/", "http://a b/", "http://127.0.0.1:99999/"]
)
def test_a_redirect_to_no_url(server, path, location):
    server.pages["/net.pth"] = Page(b"", status=302, headers={"Location": location})
    with pytest.raises(DownloadError, match=r"net\.pth: (leads to no valid URL|no answer)"):
        fetch(f"{server.url}/net.pth", path, sha256=SHA256)


def test_a_url_that_is_none(path):
    with pytest.raises(DownloadError, match=r"http://\[::1/: leads to no valid URL"):
        fetch("http://[::1/", path, sha256=SHA256)
