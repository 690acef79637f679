"""Files from the web: each download ends in a whole, verified file, or in one error.

What has arrived lies in ``<file>.part`` until it is complete and its checksum right; only then
does it get its name. A transfer that broke off is continued. Standard library only.
"""

from __future__ import annotations

import contextlib
import email.utils
import errno
import functools
import hashlib
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: of two downloads of one file at once, one may fail there
    fcntl = None

TIMEOUT = 30.0  # seconds without an answer or a byte
GRACE = 600.0  # seconds for a file of any size, and further ones at
SLOWEST = 100e3  # bytes a second
# Bytes of a file; the largest that is published has 3.7 GB. No host of weights hides the length.
LARGEST, LARGEST_UNDECLARED = 8 << 30, 1 << 30
# Of a server that is busy or being restarted: seconds before it is asked again, if it does not say.
PAUSES = (1.0, 4.0, 16.0)
LONGEST_PAUSE = 120.0
BUSY = (429, 500, 502, 503, 504)
CHUNK = 1 << 20  # bytes
DIGESTS = {"sha256": r"[0-9a-f]{8}([0-9a-f]{56})?", "md5": r"[0-9a-f]{32}"}


class DownloadError(ValueError):
    """A file that could not be had; the message names the URL or the file, and the remedy."""


@dataclass(frozen=True)
class _Answer:
    body: http.client.HTTPResponse
    start: int  # offset of its first byte in the file
    total: int | None  # bytes of the whole file, if the server says

    @property
    def most(self) -> int:
        """Bytes that the file may have."""
        return LARGEST_UNDECLARED if self.total is None else self.total

    sha256: str | None  # of the whole file, if the server says


def fetch(url: str, path, *, sha256=None, md5=None, progress=None) -> Path:
    """Download `url` to `path`, unless the right file is there; of two calls the second waits.

    Without `sha256` and `md5`, the file must match the SHA-256 that Hugging Face sends, and
    ``<path>.sha256`` remembers its digest, so that later damage is found.

    Args:
        url: http or https; redirects are followed.
        path: The file to write, which is returned; its folder is made.
        sha256: The digest in hex, or its first eight digits, which torchvision's names hold.
        md5: The digest in hex, where no `sha256` is known.
        progress: Function that is called with the number of bytes that are there, and with
            that of the whole file (``None`` if unknown).

    Raises:
        DownloadError: no network, an error of the server (one that is busy has been asked three more
            times), a transfer that broke off or takes much too long (the next call continues it), a
            file that is longer than declared or than any weights are, a wrong checksum (what came
            is removed), a file that cannot be written. A file that was at `path` is not touched then.
        ValueError: `sha256` or `md5` is no digest.
    """
    path, published = Path(path), published_digest(sha256, md5)
    if not re.fullmatch(r"https?://[!-~]+", url):
        raise DownloadError(f"{url!r}: only http:// and https:// URLs, without blanks, are fetched.")
    with local_errors(path):
        if is_good(path, published):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            # The call that was waited for may have brought it.
            if not is_good(path, published):
                part = Path(f"{path}.part")
                sent = _transfer(url, part, published, progress)
                _finish(url, part, path, published, sent)
    return path


def _transfer(url, part, published, progress) -> tuple[str, str] | None:
    """Bring `part` to its full length; returns the checksum that the server sent."""
    begin = time.monotonic()
    have = part.stat().st_size if part.exists() else 0
    answer = _ask(url, have, published) if have else None
    answer = answer or _ask(url, 0, published)
    if answer is None:
        raise DownloadError(f"{url}: the server sends no whole file of known length; try another URL.")
    done = answer.start
    with answer.body, open(part, "ab", buffering=0) as file:
        _check_room(url, answer, part)
        file.truncate(done)
        while chunk := _read(url, answer.body, part):
            done += len(chunk)
            _check_pace(url, done, answer, time.monotonic() - begin, part)
            while chunk:
                chunk = chunk[file.write(chunk) :]
            if progress:
                progress(done, answer.total)
        os.fsync(file.fileno())
    if answer.total is not None and done != answer.total:
        cut = f"the transfer ended after {done:,} of {answer.total:,} bytes"
        raise DownloadError(f"{url}: {cut}; {part} is kept, and the next try continues.")
    return answer.sha256 and ("sha256", answer.sha256)


def _check_room(url, answer, part):
    if answer.most > LARGEST:
        raise DownloadError(f"{url}: declares {answer.total:,} bytes; at most {LARGEST:,} are downloaded.")
    free, left = shutil.disk_usage(part.parent).free, (answer.total or 0) - answer.start
    if left > free:
        raise OSError(errno.ENOSPC, f"{left:,} bytes are to come, and {free:,} are free", str(part))


def _check_pace(url, done, answer, seconds, part):
    if done > answer.most:
        part.unlink()
        raise DownloadError(f"{url}: sends more than {answer.most:,} bytes; what came was removed.")
    if seconds > GRACE + answer.most / SLOWEST:
        cut = f"{done:,} bytes came in {seconds:,.0f} s, which is too slow to wait for the end"
        raise DownloadError(f"{url}: {cut}; {part} is kept, and the next try continues.")


def _finish(url, part, path, published, sent):
    """Verify the whole `part` and give it its name; a wrong one is removed."""
    algorithm, value = published or sent or ("sha256", "")
    digest = _digest(part, algorithm)
    if not digest.startswith(value):
        part.unlink()
        problem = f"expected {algorithm} {value}, got {digest}; the download was removed"
        raise DownloadError(f"{url}: wrong checksum: {problem}. Try again, or ask who published it.")
    if not published:
        # Before the file, so that a crash in between leaves nothing that cannot be verified.
        Path(f"{path}.sha256").write_text(f"{digest}  {path.name}\n", encoding="utf-8")
    os.replace(part, path)


def _ask(url, start, published) -> _Answer | None:
    """Request `url` from byte `start`; ``None`` if what the server sends cannot be used."""
    redirects, headers = _Redirects(), {"User-Agent": "keras-resnet"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        body = _open(urllib.request.Request(url, headers=headers), redirects)
    except urllib.error.HTTPError as error:
        error.close()
        if start and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return None
        raise DownloadError(f"{url}: the server answers {error.code} {error.reason}.") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise DownloadError(f"{url}: no answer: {reason}; check the network and the proxy.") from error
    except ValueError as error:  # of a URL, this one or one that a redirect leads to
        raise DownloadError(f"{url}: leads to no valid URL: {error}; try another one.") from error
    answer = _understand(url, body, redirects.linked)
    # What cannot be verified is not pieced together: the file may have changed on the server.
    fits = answer and (not answer.start or (answer.start == start and (published or answer.sha256)))
    if not fits:
        body.close()
    return answer if fits else None


def _open(request, redirects):
    """The answer of the server; one that is busy is asked again, three times at most."""
    opener = urllib.request.build_opener(redirects)
    for usual in PAUSES:
        try:
            return opener.open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            pause = max(usual, _asked_pause(error.headers.get("Retry-After")))
            if error.code not in BUSY or pause > LONGEST_PAUSE:
                raise
            error.close()
        time.sleep(pause)
    return opener.open(request, timeout=TIMEOUT)


def _asked_pause(text) -> float:
    """Seconds that a header Retry-After says: a number, or a date."""
    if text is None:
        return 0.0
    if re.fullmatch(r"\d{1,9}", text.strip()):
        return float(text)
    try:
        return email.utils.parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0


def _understand(url, body, linked) -> _Answer | None:
    """What the headers say; ``None`` if the end of the file could not be told from a cut."""
    start, total = 0, body.length
    if body.status == http.HTTPStatus.PARTIAL_CONTENT:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", body.headers.get("Content-Range", ""))
        if not span:
            return None
        start, total = int(span[1]), int(span[2])
    elif body.status != http.HTTPStatus.OK:
        return None
    # The storage behind a redirect sends an ETag that looks like a SHA-256 and is another hash.
    own = body.headers.get("ETag") if body.url == url else None
    etag = linked or body.headers.get("X-Linked-ETag") or own or ""
    sha256 = re.fullmatch(r'(?:W/)?"?([0-9a-f]{64})"?', etag)
    if total is None and not body.chunked and not sha256:
        return None
    return _Answer(body, start, total, sha256 and sha256[1])


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to http(s), never from https to http; keep Hugging Face's SHA-256."""

    linked: str | None = None

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        secure = req.full_url.lower().startswith("https:")
        if not newurl.lower().startswith("https:" if secure else ("https:", "http:")):
            msg = f"{msg}, a redirect to {newurl}, which is not followed"
            raise urllib.error.HTTPError(newurl, code, msg, headers, fp)
        self.linked = self.linked or headers.get("X-Linked-ETag")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _read(url, body, part):
    try:
        return body.read1(CHUNK)  # what is there: `read` would wait for a whole chunk
    except (OSError, http.client.HTTPException) as error:
        cut = f"the transfer broke off: {error}"
        raise DownloadError(f"{url}: {cut}; {part} is kept, and the next try continues.") from error


def is_good(path, published):
    """Whether the file is there and undamaged; without any checksum it is taken as it is."""
    if not path.is_file():
        return False
    note = Path(f"{path}.sha256")
    if not published and not note.is_file():
        return True
    algorithm, value = published or ("sha256", note.read_text("utf-8", "replace").partition(" ")[0])
    stat = path.stat()
    digest = _digest_once(path, algorithm, (stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return len(value) >= 8 and digest.startswith(value)


@functools.cache
def _digest_once(path, algorithm, stamp):
    return _digest(path, algorithm)


def _digest(path, algorithm):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def published_digest(sha256, md5) -> tuple[str, str] | None:
    """``(algorithm, hex digits)`` of a checksum that was published, or ``None``."""
    algorithm, value = ("md5", md5) if sha256 is None else ("sha256", sha256)
    if value is None:
        return None
    if not re.fullmatch(DIGESTS[algorithm], value.lower()):
        raise ValueError(f"{algorithm}={value!r} is no full digest in hex (nor the first 8 of sha256).")
    return algorithm, value.lower()


@contextlib.contextmanager
def local_errors(path):
    """Errors of the disk as one `DownloadError`; those of the network are such already."""
    try:
        yield
    except OSError as error:
        remedy = "make room, or set KERAS_RESNET_HOME to another folder"
        raise DownloadError(f"{path}: {error.strerror or error}; {remedy}.") from error


@contextlib.contextmanager
def _alone(path):
    """Hold ``<path>.lock``, which stays as an empty file, against downloads of the same file."""
    with open(f"{path}.lock", "ab") as lock:
        # Some network file systems have no locks; the checksum is the guard there.
        with contextlib.suppress(OSError):
            if fcntl:
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
