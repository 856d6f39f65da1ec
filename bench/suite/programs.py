# SPDX-License-Identifier: MIT
"""Real programs as rows. Each makes its input from the seed, and its output has to be the same under every
allocator. A server's time is that of its clients, its CPU time and memory are its own."""

import hashlib
import random
import shutil
import socket
import subprocess
import time
from pathlib import Path

from measure import clean_environment


def tool(*names):
    for name in names:
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
        if found:
            return found
    return None


def digest(*parts):
    total = hashlib.sha256()
    for part in parts:
        total.update(part if isinstance(part, bytes) else str(part).encode())
    return total.hexdigest()


class Program:
    """A program that reads its input, computes, and writes its output."""

    family = "program"
    timed = True
    links_another = False
    env = {}

    def __init__(self, name, what, path, seed, scale, work):
        self.name, self.what, self.path = name, what, path
        self.seed, self.scale, self.work = seed, scale, Path(work)
        self.ready = False

    def missing(self):
        return None if self.path else f"{self.name} is not installed"

    def size(self, n):
        return max(1, n * self.scale // 1000)

    def file(self, name, text):
        path = self.work / name
        path.write_text(text)
        return path

    def prepare(self):
        """Makes the input, once."""

    def command(self):
        raise NotImplementedError

    def product(self):
        """A file that the program writes beside its standard output."""
        return None

    def run(self, launcher, allocator, series=None):
        if not self.ready:
            self.prepare()
            self.ready = True
        product = self.product()
        if product:
            product.unlink(missing_ok=True)
        sample = launcher.run(self.command(), allocator, env=self.env,
                              links_another=self.links_another, series=series)
        if sample["outcome"] == "ok":
            sample["digest"] = digest(launcher.out.read_bytes(),
                                      product.read_bytes() if product else b"")
        return sample


C_FUNCTION = """
struct s{i} {{ int a[{n}]; struct s{before} *next; const char *name; }};
static int f{i}(struct s{i} *p, int n)
{{
    int sum = {i};
    for (int k = 0; k < n; k++) {{
        sum += p->a[k % {n}] * (k ^ {r});
        switch (sum & 7) {{
        case 0: sum += p->name[0]; break;
        case 1: sum ^= n << 3; break;
        case 2: sum -= p->a[0]; break;
        case 3: p->a[1] = sum; break;
        default: sum = sum * 31 + k;
        }}
    }}
    return sum;
}}
int g{i}(int n)
{{
    struct s{i} x = {{{{0}}, 0, "name{i}"}};
    return f{i}(&x, n) + {tail};
}}
"""


class Compiler(Program):
    def __init__(self, *args):
        super().__init__("cc1", "gcc's compiler proper at -O2 on a generated file", None, *args)
        gcc = tool("gcc")
        if gcc:
            found = subprocess.run([gcc, "-print-prog-name=cc1"], capture_output=True, text=True,
                                   check=False).stdout.strip()
            self.path = found if Path(found).is_absolute() and Path(found).exists() else None

    def prepare(self):
        r = random.Random(self.seed)
        self.source = self.file("big.c", "".join(
            C_FUNCTION.format(i=i, before=max(i - 1, 0), n=r.randint(2, 9), r=r.randint(1, 1000),
                              tail=f"g{i - 1}(n - 1)" if i else "0")
            for i in range(self.size(150))))

    def command(self):
        return [self.path, "-quiet", "-O2", "-w", self.source, "-o", self.product()]

    def product(self):
        return self.work / "big.s"


class Script(Program):
    """An interpreter on a script of ours; SCALE in it stands for a number."""

    def __init__(self, name, what, path, options, text, number, *args, env=None):
        super().__init__(name, what, path, *args)
        self.options, self.text, self.number, self.env = options, text, number, env or {}

    def prepare(self):
        self.script = self.file(f"{self.name}.script",
                                self.text.replace("SCALE", str(self.size(self.number)))
                                .replace("SEED", str(self.seed)))

    def command(self):
        return [self.path, *self.options, self.script]


PYTHON = """
import json, random
r = random.Random(SEED)
total = 0
for turn in range(4):
    rows = [{"id": i, "name": "n%d" % r.randrange(10**9), "tags": [str(r.random()) for _ in range(r.randrange(6))]}
            for i in range(SCALE)]
    text = json.dumps(rows)
    back = json.loads(text)
    back.sort(key=lambda row: row["name"])
    total += len(text) + sum(len(row["tags"]) * i for i, row in enumerate(back))
    words = {}
    for row in back:
        words.setdefault(row["name"][:4], []).append(row["name"] + "x" * (row["id"] % 300))
    total += sum(len("".join(v)) for v in words.values())
print(total)
"""
PERL = """
my ($x, %h, @a) = (SEED);
for my $i (1 .. SCALE) {
    $x = ($x * 1103515245 + 12345) % 2147483648;
    my $k = "k" . ($x % 20000);
    $h{$k} .= "v" x ($x % 37);
    push @a, [$k, $x, "s" x ($x % 200)];
    splice(@a, 0, 5000) if @a > 10000;
    delete $h{$k} if length($h{$k} || "") > 500;
}
my $n = 0;
$n += length($h{$_}) for sort keys %h;
$n += length($_->[2]) for sort { $a->[1] <=> $b->[1] } @a;
print "$n\\n";
"""
LUA = """
local x, total, live = SEED, 0, {}
for i = 1, SCALE do
  x = (x * 1103515245 + 12345) % 2147483648
  local t = {id = i, name = "n" .. x, list = {}}
  for j = 1, x % 8 do t.list[j] = {j, tostring(x + j)} end
  live[x % 5000 + 1] = t
  if i % 64 == 0 then
    local parts = {}
    for j = 1, 50 do local o = live[(x + j) % 5000 + 1]; if o then parts[#parts + 1] = o.name end end
    total = total + #table.concat(parts, ",")
  end
end
print(total)
"""
AWK = """
BEGIN {
    x = SEED
    for (i = 0; i < SCALE; i++) {
        x = (x * 69069 + 1) % 4294967296
        k = "w" (x % 30011)
        count[k]++
        text[k] = substr(text[k] " " x, 1, 200)
        if (x % 17 == 0) { n = split(text[k], part, " "); sum += n; delete text[k] }
    }
    for (i = 0; i < 30011; i++) sum += count["w" i] * (i % 7) + length(text["w" i])
    print sum
}
"""
SQL = """
.mode list
CREATE TABLE t(id INTEGER PRIMARY KEY, k TEXT, v BLOB, n INTEGER);
WITH RECURSIVE c(i, x) AS (SELECT 1, SEED UNION ALL SELECT i + 1, (x * 1103515245 + 12345) % 2147483648 FROM c WHERE i < SCALE)
INSERT INTO t SELECT i, 'k' || (x % 5000), zeroblob(x % 200), x % 1000 FROM c;
CREATE INDEX tk ON t(k, n);
SELECT k, count(*), sum(n), sum(length(v)) FROM t GROUP BY k ORDER BY 3, 1 LIMIT 20;
SELECT sum(length(s)) FROM (SELECT group_concat(k || ':' || n, ',') AS s FROM t GROUP BY n);
UPDATE t SET k = k || '-' || n WHERE n % 3 = 0;
DELETE FROM t WHERE n % 5 = 0;
SELECT count(*), sum(n) FROM t a WHERE EXISTS (SELECT 1 FROM t b WHERE b.k = a.k AND b.n = a.n + 1);
"""
POSTSCRIPT = """%!PS
/Helvetica findfont 9 scalefont setfont
SEED srand
1 1 SCALE {
  pop
  1 1 60 { pop newpath rand 600 mod rand 800 mod moveto 8 { rand 600 mod rand 800 mod lineto } repeat
    rand 100 mod 100 div setgray closepath fill } for
  1 1 60 { pop 0 setgray rand 500 mod rand 780 mod moveto rand 20 string cvs show } for
  showpage
} for
"""


class Sqlite(Script):
    def __init__(self, *args):
        super().__init__("sqlite3", "a table in memory: insert, index, group, update",
                         tool("sqlite3"), [], SQL, 60000, *args)

    def command(self):
        return [self.path, ":memory:", f".read {self.script}"]


class Ghostscript(Script):
    def __init__(self, *args):
        super().__init__("ghostscript", "gs draws pages of polygons and text", tool("gs"),
                         ["-q", "-dNOPAUSE", "-dBATCH", "-dSAFER", "-sDEVICE=ppmraw", "-r72"],
                         POSTSCRIPT, 12, *args)

    def command(self):
        return [self.path, *self.options, f"-sOutputFile={self.product()}", self.script]

    def product(self):
        return self.work / "pages.ppm"


class Server(Program):
    """Started, asked, and stopped by SIGTERM; ends with status 0."""

    def socket(self):
        return self.work / f"{self.name}.sock"

    def ask(self):
        """The load; what it returns has to be the same under every allocator."""
        raise NotImplementedError

    def run(self, launcher, allocator, series=None):
        if not self.ready:
            self.prepare()
            self.ready = True
        self.socket().unlink(missing_ok=True)
        server = subprocess.Popen(
            launcher.command(self.command(), allocator, env=self.env,
                             links_another=self.links_another, series=series),
            env=clean_environment(), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        answers, seconds, trouble = None, 0.0, None
        try:
            self.wait_until_up(server)
            start = time.monotonic()
            answers = self.ask()
            seconds = time.monotonic() - start
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            trouble = f"client: {error}"[:120]
        finally:
            self.stop(server)
        sample = launcher.sample()
        if sample["outcome"] == "ok" and trouble:
            sample["outcome"] = trouble
        if sample["outcome"] == "ok":
            sample.update(wall=seconds, digest=digest(answers))
        return sample

    def wait_until_up(self, server, patience=10):
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and server.poll() is None:
            with socket.socket(socket.AF_UNIX) as s:
                try:
                    s.connect(str(self.socket()))
                    return
                except OSError:
                    time.sleep(0.01)
        raise RuntimeError("the server does not listen")

    @staticmethod
    def stop(server):
        server.terminate()
        try:
            server.wait(timeout=15)
        except subprocess.TimeoutExpired:  # the launcher's own time limit ends the server
            server.wait()


class Redis(Server):
    links_another = True  # Debian's is linked with jemalloc

    def __init__(self, *args):
        super().__init__("redis", "redis-server under redis-benchmark", tool("redis-server"), *args)
        self.client, self.cli = tool("redis-benchmark"), tool("redis-cli")

    def missing(self):
        return None if self.path and self.client and self.cli else "redis is not installed"

    def command(self):
        return [self.path, "--port", "0", "--unixsocket", self.socket(), "--save", "",
                "--appendonly", "no", "--dir", self.work]

    def ask(self):
        for size, n in ((100, 40000), (3000, 8000)):
            subprocess.run([self.client, "-s", self.socket(), "-q", "-t", "set,get,lpush,hset",
                            "-n", str(self.size(n)), "-r", "20000", "-d", str(size), "-P", "8"],
                           check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                           timeout=60)
        # The benchmark's keys are random; these are not.
        lines = "".join(f"SET key:{i} {'x' * (i * 7)}\nGET key:{i}\n" for i in range(100))
        return subprocess.run([self.cli, "-s", self.socket()], input=lines.encode(), check=True,
                              stdout=subprocess.PIPE, timeout=60).stdout


NGINX = """daemon off; master_process off; pid {work}/nginx.pid; error_log /dev/null;
events {{ worker_connections 64; }}
http {{
    access_log off; keepalive_requests 1000000; etag off;
    client_body_temp_path {work}/body; proxy_temp_path {work}/proxy; fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
    server {{ listen unix:{socket}; root {work}/www; }}
}}
"""


class Nginx(Server):
    def __init__(self, suite, *args):
        super().__init__("nginx", "nginx, one process, a page of 3 KB", tool("nginx"), *args)
        self.suite = suite

    def prepare(self):
        (self.work / "www").mkdir(exist_ok=True)
        (self.work / "www/page.html").write_text("<p>line</p>\n" * 250)
        self.conf = self.file("nginx.conf",
                              NGINX.format(work=self.work, socket=self.socket()))

    def command(self):
        return [self.path, "-p", self.work, "-c", self.conf]

    def ask(self):
        return subprocess.run([self.suite, "http", self.socket(), "/page.html",
                               str(self.size(40000))], check=True, stdout=subprocess.PIPE,
                              timeout=60).stdout


def programs(suite, seed, scale, work):
    common = (seed, scale, work)
    return [
        Compiler(*common),
        Script("python3", "objects, strings and JSON; PYTHONMALLOC=malloc",
               tool("/usr/bin/python3", "python3"), ["-S"], PYTHON, 9000, *common,
               env={"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "1"}),
        Redis(*common),
        Sqlite(*common),
        Script("gawk", "arrays of strings", tool("gawk"), ["-f"], AWK, 500000, *common),
        Script("perl", "hashes and arrays of strings", tool("perl"), [], PERL, 350000, *common),
        Script("lua", "tables and strings", tool("lua5.4", "lua5.3", "lua"), [], LUA, 300000,
               *common),
        Ghostscript(*common),
        Nginx(suite, *common),
    ]
