"""Downloads from a server on loopback that speaks TLS and has the faults it is told to have."""

from __future__ import annotations

import base64
import hashlib
import shutil
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import numpy as np
import pytest

from cvkit._errors import DataError
from cvkit.gan.datasets.quickdraw import download, load, open_bitmaps, write_bitmaps

NAME = "The Eiffel Tower"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        server.seen.append((unquote(self.path), self.headers.get("Range")))
        fault = server.faults.pop(0) if server.faults else ""
        data, start = server.data, 0
        if fault.isdigit():
            self.answer(int(fault), b"no")
            return
        if fault.startswith("to:"):
            self.send_response(302)
            self.send_header("Location", fault[3:])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.headers.get("Range") and self.headers.get("If-Range") == server.etag and fault != "ignore range":
            start = int(self.headers["Range"][6:-1])
            if start > len(data):
                self.answer(416, b"")
                return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if server.etag:
            self.send_header("ETag", server.etag)
        if server.md5:
            self.send_header("x-goog-hash", f"crc32c=AAAAAA==,md5={server.md5}")
        if fault == "no length":
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(data)
            self.close_connection = True
            return
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if fault == "cut":
            self.wfile.write(data[start : start + (len(data) - start) // 2])
            self.close_connection = True
            return
        self.wfile.write(data[start:])

    def answer(self, code, body):
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def md5(data):
    return base64.b64encode(hashlib.md5(data).digest()).decode()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate of the server on loopback")
    folder = tmp_path_factory.mktemp("certificate")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def server(certificate, tmp_path):
    write_bitmaps(tmp_path / "source.npy", np.random.default_rng(0).integers(0, 256, (300, 28, 28), dtype=np.uint8))
    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    web.socket = context.wrap_socket(web.socket, server_side=True)
    web.data, web.faults, web.seen = (tmp_path / "source.npy").read_bytes(), [], []
    web.etag, web.md5 = '"v1"', md5(web.data)
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield web
    web.shutdown()
    thread.join()
    web.server_close()


@pytest.fixture
def get(server, certificate, tmp_path):
    context = ssl.create_default_context(cafile=certificate / "cert.pem")

    def call(classes=(NAME,), formats=("numpy_bitmap",), **options):
        base = f"https://localhost:{server.server_port}/bucket"
        return download(classes, formats, tmp_path / "root", base=base, context=context, timeout=5, **options)

    return call


def left(tmp_path):
    return sorted(p.name for p in (tmp_path / "root").rglob("*") if p.is_file())


def test_files_come_under_their_official_addresses_and_load(server, get, tmp_path):
    files = get(formats=["numpy_bitmap"])
    assert server.seen == [(f"/bucket/full/numpy_bitmap/{NAME}.npy", None)]
    assert files[0].read_bytes() == server.data
    assert left(tmp_path) == [f"{NAME}.npy"]
    assert load(tmp_path / "root").names == (NAME,)


def test_every_format_has_its_address_and_folder(server, get, tmp_path):
    files = get(["cat"], ["numpy_bitmap", "simplified", "raw", "binary", "sketchrnn"])
    assert [path for path, _ in server.seen] == [
        "/bucket/full/numpy_bitmap/cat.npy",
        "/bucket/full/simplified/cat.ndjson",
        "/bucket/full/raw/cat.ndjson",
        "/bucket/full/binary/cat.bin",
        "/bucket/sketchrnn/cat.npz",
    ]
    assert len({str(file) for file in files}) == 5


def test_what_is_there_is_left_alone(server, get):
    get()
    get()
    assert len(server.seen) == 1


def test_a_broken_connection_is_taken_up_where_it_broke(server, get, tmp_path):
    server.faults = ["cut", "cut"]
    (file,) = get()
    assert file.read_bytes() == server.data
    half = len(server.data) // 2
    assert [r for _, r in server.seen] == [None, f"bytes={half}-", f"bytes={half + (len(server.data) - half) // 2}-"]
    assert left(tmp_path) == [f"{NAME}.npy"]


def test_a_download_that_failed_is_continued_by_the_next_call(server, get, tmp_path):
    server.faults = ["cut"]
    with pytest.raises(DataError, match=r"Eiffel.*broke off 1 times; what was loaded is kept"):
        get(attempts=1)
    assert left(tmp_path) == [f".{NAME}.npy.etag", f".{NAME}.npy.part"]
    (file,) = get()
    assert file.read_bytes() == server.data
    assert server.seen[-1][1] is not None


def test_a_part_of_another_version_is_not_continued(server, get):
    server.faults = ["cut"]
    with pytest.raises(DataError):
        get(attempts=1)
    server.data = server.data[:128] + bytes(len(server.data) - 128)
    server.etag, server.md5 = '"v2"', md5(server.data)
    (file,) = get()
    assert file.read_bytes() == server.data


def test_a_server_without_ranges_or_tags_or_lengths_does(server, get):
    server.faults = ["cut", "ignore range"]
    assert get()[0].read_bytes() == server.data
    server.etag, server.faults = "", ["cut"]
    assert get(["cat"])[0].read_bytes() == server.data
    assert server.seen[-1][1] is None
    server.faults = ["no length"]
    assert get(["dog"])[0].read_bytes() == server.data


def test_a_part_longer_than_the_file_is_thrown_away(server, get, tmp_path):
    folder = tmp_path / "root" / "numpy_bitmap"
    folder.mkdir(parents=True)
    (folder / ".cat.npy.part").write_bytes(bytes(len(server.data) + 5))
    (folder / ".cat.npy.etag").write_text('"v1"')
    assert get(["cat"])[0].read_bytes() == server.data


def test_a_wrong_checksum_leaves_nothing(server, get, tmp_path):
    server.md5 = md5(b"something else")
    with pytest.raises(DataError, match="MD5"):
        get()
    assert f"{NAME}.npy" not in left(tmp_path)
    server.md5 = "no base64!"
    assert get()[0].read_bytes() == server.data


def test_files_above_the_cap_are_refused_before_and_while_they_come(server, get, tmp_path):
    with pytest.raises(DataError, match="235328 bytes; at most 1000"):
        get(max_bytes=1000)
    server.faults = ["no length"]
    with pytest.raises(DataError, match="more than 1000"):
        get(max_bytes=1000)
    assert f"{NAME}.npy" not in left(tmp_path)


@pytest.mark.fault("googlecreativelab/quickdraw-dataset#73")
@pytest.mark.parametrize(("faults", "says"), [(["404"], "404"), (["403"], "403"), (["500"] * 3, "broke off 3 times")])
def test_a_refusing_server_is_one_error_that_names_the_address(server, get, faults, says):
    server.faults = faults
    with pytest.raises(DataError, match=rf"https://localhost.*Eiffel%20Tower\.npy.*{says}"):
        get()


def test_a_server_that_recovers_is_asked_again(server, get):
    server.faults = ["503", "500"]
    assert get()[0].read_bytes() == server.data


def test_only_https_is_opened_and_followed_to(server, get, tmp_path):
    with pytest.raises(ValueError, match="https"):
        download(["cat"], root=tmp_path, base="http://localhost/")
    with pytest.raises(ValueError, match="https"):
        download(["cat"], root=tmp_path, base="file:///etc")
    server.faults = [f"to:http://localhost:{server.server_port}/x"]
    with pytest.raises(DataError, match="redirects to 'http:"):
        get()
    server.faults = [f"to:https://localhost:{server.server_port}/x"]
    assert get()[0].read_bytes() == server.data


def test_an_unknown_certificate_is_refused(server, tmp_path):
    with pytest.raises(DataError, match="no secure connection"):
        download(["cat"], root=tmp_path / "root", base=f"https://localhost:{server.server_port}", timeout=5)


def test_nobody_there_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="broke off 2 times"):
        download(["cat"], root=tmp_path, base="https://localhost:9", attempts=2, timeout=2)


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "", " ", "a\\b", "a\nb"])
def test_names_that_leave_the_folder_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="classes"):
        download([name], root=tmp_path)
    with pytest.raises(TypeError, match="classes"):
        download("cat", root=tmp_path)
    with pytest.raises(ValueError, match="formats"):
        download(["cat"], ["png"], tmp_path)


def test_a_page_instead_of_a_file_is_noticed_on_reading(server, get):
    server.data = b"<html>moved</html>"
    server.md5 = ""
    (file,) = get()
    with pytest.raises(DataError, match="not an npy file"):
        open_bitmaps(file)


def test_progress_is_silent_off_a_terminal(get, capsys):
    get(progress=True)
    assert capsys.readouterr() == ("", "")
