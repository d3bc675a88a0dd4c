"""Three real Cassandra nodes on 127.0.0.1, .2 and .3, each a process of its own.

Knows Maven, Java and Cassandra's configuration; knows nothing of Tamis. Whatever ends the tests, the
nodes end too: a guard process outlives a killed test run just long enough to kill them.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

HERE = Path(__file__).parent
JAVA_MAJOR = "17"
CQL_PORT = 9042
DATA_CENTER = "datacenter1"  # as SimpleSnitch calls it
ADMIN = "cassandra"  # name and password that a new cluster comes with
START_SECONDS = 120.0
_IS_UP = "Starting listening for CQL clients"
_TOKENS = ("-9223372036854775808", "-3074457345618258603", "3074457345618258602")
SYNCED = "commitlog_sync: batch"
"""For nodes that are killed: what they acknowledged is on disk."""
PERIODIC = """commitlog_sync: periodic
commitlog_sync_period: 10s
write_request_timeout: 20s
read_request_timeout: 20s"""
"""The log as Cassandra comes, for measuring; patient, because new nodes of a busy machine are slow."""
_GUARD = 'read -r _; cat "$1"/*.pid 2>/dev/null | xargs -r kill -9; rm -rf "$1"'


class ClusterUnavailable(Exception):
    """This machine lacks what a cluster needs; the message says what to install."""


def fetch_jars() -> Path:
    """Return the folder of Cassandra's jars, fetched once by Maven into the user's cache."""
    cache = Path.home() / ".cache"  # not XDG_CACHE_HOME: the tests give that a new place each time
    pom = HERE / "pom.xml"
    found = re.search(r"<artifactId>cassandra-all</artifactId>\s*<version>([\d.]+)<", pom.read_text())
    assert found, "pom.xml names no cassandra-all"
    jars = cache / "tamis" / f"cassandra-{found[1]}"
    if jars.is_dir():
        return jars
    if shutil.which("mvn") is None:
        raise ClusterUnavailable("no Maven: install it (on Debian: apt install maven)")
    jars.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=jars.parent) as folder:
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}/lib"]
        done = subprocess.run(
            ["mvn", "-q", "-B", "-f", pom, *goal], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise ClusterUnavailable(f"Maven could not fetch Cassandra: {done.stdout[-500:]}")
        os.rename(f"{folder}/lib", jars)
    return jars


def find_java() -> str:
    """Return the `java` of a JDK 17: later ones are not supported, or cannot work at all."""
    home = os.environ.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else shutil.which("java")
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False) if java else None
    found = told and re.search(r'version "(\d+)', told.stderr)
    if java is None or not found or found[1] != JAVA_MAJOR:
        has = f"Java {found[1]}" if found else "no Java"
        raise ClusterUnavailable(
            f"{has} here: install a JDK {JAVA_MAJOR} (on Debian: apt install "
            f"openjdk-{JAVA_MAJOR}-jdk-headless) or set JAVA_HOME"
        )
    return java


class Node:
    """One node: its folder, its configuration and, while it runs, its process."""

    def __init__(self, number: int, folder: Path, configuration: str, jars: Path, java: str):
        self.address, self._jmx_port = f"127.0.0.{number}", _jmx_port(number)
        self._folder, self._jars, self._java = folder, jars, java
        self._pid_file = folder.with_suffix(".pid")
        self._process: subprocess.Popen[str] | None = None
        self._is_up = threading.Event()
        conf = folder / "conf"
        conf.mkdir(parents=True)
        (conf / "cassandra.yaml").write_text(configuration)
        shutil.copy(HERE / "logback.xml", conf)
        self._arguments = conf / "java.args"
        self._arguments.write_text(_java_arguments(number, folder, jars))

    def start(self) -> None:
        """Start the process; return when it answers CQL."""
        self.launch()
        self.wait_until_up()

    def launch(self) -> None:
        """Start the process."""
        self._is_up.clear()
        self._process = subprocess.Popen(
            [self._java, f"@{self._arguments}", "org.apache.cassandra.service.CassandraDaemon"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl+C is the test run's to handle
        )
        self._pid_file.write_text(f"{self._process.pid}\n")
        threading.Thread(target=self._follow, args=(self._process,), daemon=True).start()

    def wait_until_up(self) -> None:
        """Return when the process answers CQL."""
        if not self._is_up.wait(START_SECONDS) or self._running().poll() is not None:
            self.kill()
            raise RuntimeError(f"node {self.address} did not start:\n{self.last_words()}")

    def stop(self) -> None:
        """End the process as an operator would, and wait for it."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the process as a crash would, and wait for it."""
        self._end(signal.SIGKILL)

    def suspend(self) -> None:
        """Let the process stand still: its connections stay open and nothing answers."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let the process go on."""
        self._running().send_signal(signal.SIGCONT)

    @property
    def is_running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """The process."""
        return self._running().pid

    def nodetool(self, *arguments: str) -> str:
        """Run a command of Cassandra's own tool on this node; return what it prints."""
        options = [
            *_module_options(),
            "-cp",
            f"{self._folder}/conf:{self._jars}/*",
            f"-Duser.home={self._folder}",
        ]
        tool = [self._java, *options, "org.apache.cassandra.tools.NodeTool", "-p", str(self._jmx_port)]
        done = subprocess.run([*tool, *arguments], check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"nodetool {arguments[0]}: {(done.stderr or done.stdout)[-500:]}")
        return done.stdout

    def data_bytes(self, pattern: str) -> int:
        """Return the size of the files of tables, such as `keyspace/table-*`."""
        files = (self._folder / "data").glob(f"{pattern}/*.db")
        return sum(file.stat().st_size for file in files)

    def last_words(self) -> str:
        """Return the end of the node's log."""
        log = self._folder / "out.log"
        return log.read_text()[-4_000:] if log.exists() else ""

    def _running(self) -> subprocess.Popen[str]:
        assert self._process is not None, f"node {self.address} is not running"
        return self._process

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)  # a suspended process would not see SIGTERM
        process.send_signal(how)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._pid_file.unlink(missing_ok=True)

    def _follow(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout, (self._folder / "out.log").open("a") as log:
            for line in process.stdout:
                log.write(line)
                log.flush()
                if _IS_UP in line:
                    self._is_up.set()
        self._is_up.set()  # it ended: whoever waits must look


class Cluster:
    """Three nodes in a temporary folder; a context manager that starts and always stops them."""

    def __init__(self, size: int = 3, *, commitlog: str = SYNCED):
        java, jars = find_java(), fetch_jars()
        self._folder = Path(tempfile.mkdtemp(prefix="tamis-cassandra-"))
        numbers = range(1, size + 1)
        seeds = ",".join(f"127.0.0.{number}" for number in numbers)  # others must wait for one of these
        self.nodes = [
            Node(number, home, _configuration(number, home, seeds, commitlog), jars, java)
            for number in numbers
            for home in [self._folder / f"node{number}"]
        ]
        self._guard = subprocess.Popen(
            ["sh", "-c", _GUARD, "sh", str(self._folder)], stdin=subprocess.PIPE, start_new_session=True
        )

    @property
    def hosts(self) -> str:
        """The addresses as a store URL lists them."""
        return ",".join(node.address for node in self.nodes)

    def __enter__(self) -> Self:
        try:
            self.restore()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def restore(self) -> None:
        """Start the nodes that do not run, all at once."""
        stopped = [node for node in self.nodes if not node.is_running]
        for node in stopped:
            node.launch()
        for node in stopped:
            node.wait_until_up()

    def stop(self) -> None:
        """Kill the nodes, whose data nobody needs any more, and remove their folder."""
        for node in self.nodes:
            node.kill()
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()


def _jmx_port(number: int) -> int:
    return 7_099 + 100 * number


def _configuration(number: int, folder: Path, seeds: str, commitlog: str) -> str:
    return f"""
cluster_name: local
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
authenticator: PasswordAuthenticator
num_tokens: 1
initial_token: "{_TOKENS[number - 1]}"
auto_bootstrap: false
listen_address: 127.0.0.{number}
rpc_address: 127.0.0.{number}
storage_port: 7000
native_transport_port: {CQL_PORT}
start_native_transport: true
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{{seeds: "{seeds}"}}]
data_file_directories: ["{folder}/data"]
commitlog_directory: {folder}/commitlog
saved_caches_directory: {folder}/saved_caches
hints_directory: {folder}/hints
cdc_raw_directory: {folder}/cdc_raw
{commitlog}
commitlog_segment_size: 5MiB
memtable_allocation_type: heap_buffers
disk_access_mode: standard
auto_snapshot: false
"""


def _module_options() -> list[str]:
    exports = """java.base/jdk.internal.misc java.base/java.lang.ref
        java.management.rmi/com.sun.jmx.remote.internal.rmi java.management/com.sun.jmx.remote.security
        java.rmi/sun.rmi.registry java.rmi/sun.rmi.server java.sql/java.sql jdk.unsupported/sun.misc"""
    opens = """java.base/java.lang java.base/java.lang.module java.base/java.lang.reflect java.base/java.io
        java.base/java.nio java.base/java.util java.base/sun.nio.ch java.base/jdk.internal.loader
        java.base/jdk.internal.ref java.base/jdk.internal.reflect java.base/jdk.internal.math
        java.base/jdk.internal.module java.base/jdk.internal.util.jar
        jdk.management/com.sun.management.internal"""
    return [
        *(f"--add-exports={name}=ALL-UNNAMED" for name in exports.split()),
        *(f"--add-opens={name}=ALL-UNNAMED" for name in opens.split()),
    ]


def _java_arguments(number: int, folder: Path, jars: Path) -> str:
    [jamm] = jars.glob("jamm-*.jar")
    return "\n".join(
        [
            f"-cp {folder}/conf:{jars}/*",
            f"-javaagent:{jamm}",
            "-Xms512m -Xmx512m -XX:MaxDirectMemorySize=256m -XX:+UseSerialGC",
            "-Djdk.attach.allowAttachSelf=true -Dio.netty.tryReflectionSetAccessible=true",
            "-Djava.net.preferIPv4Stack=true",
            *_module_options(),
            "-Dcassandra-foreground=yes -Dcassandra.skip_wait_for_gossip_to_settle=0",
            "-Dcassandra.ring_delay_ms=1000 -Dcassandra.superuser_setup_delay_ms=0",
            "-Dcassandra.auth_bcrypt_gensalt_log2_rounds=4",  # each connection logs in
            f"-Dcassandra.config=file://{folder}/conf/cassandra.yaml",
            f"-Dcassandra.storagedir={folder} -Dcassandra.logdir={folder}",
            f"-Dlogback.configurationFile={folder}/conf/logback.xml",
            f"-Dcassandra.jmx.local.port={_jmx_port(number)}",
        ]
    )
