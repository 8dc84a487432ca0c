# SPDX-License-Identifier: GPL-2.0-or-later
"""Apache Spark on one core of this machine: quiet, without its web pages, and only on the loopback interface."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

JRE = Path("/usr/lib/jvm/default-java")
"""What Debian's default-jre-headless installs, whatever other Java there is."""

_SET_UP = "run tools/test --full, or tools/setup.sh full"
_ANYWHERE_BUT_UTC = "Asia/Kathmandu"
_QUIET = """\
rootLogger.level = error
logger.gateway.name = org.apache.spark.api.python.PythonGatewayServer
logger.gateway.level = error
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %p %c: %m%n%ex
"""


@contextmanager
def local_spark(home: Path) -> Iterator[SparkSession]:
    """Start Spark in a Java process of its own, and end it. All that it writes goes below `home`.

    Its time zone is not UTC, since times in our files must not depend on it.
    """
    pytest.importorskip("pyspark", reason=f"there is no PySpark: {_SET_UP}")
    if not JRE.exists():
        pytest.skip(f"there is no Java: {_SET_UP}")
    from pyspark import SparkConf, SparkContext
    from pyspark.java_gateway import launch_gateway
    from pyspark.sql import SparkSession

    (home / "log4j2.properties").write_text(_QUIET)
    settings = {
        "spark.master": "local[1]",
        "spark.app.name": "kleaktrace",
        "spark.driver.memory": "512m",  # the least that Spark takes is 450 MiB
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraJavaOptions": f"-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData"
        f" -Djava.io.tmpdir={home}",
        "spark.local.dir": str(home),
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.session.timeZone": _ANYWHERE_BUT_UTC,
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.warehouse.dir": str(home / "warehouse"),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    conf = SparkConf(loadDefaults=False).setAll(list(settings.items()))
    with _environment(JAVA_HOME=str(JRE), SPARK_CONF_DIR=str(home), SPARK_LOCAL_IP="127.0.0.1"):
        gateway = launch_gateway(conf)
        try:
            session = SparkSession(SparkContext(gateway=gateway, conf=conf))
            yield session
            session.stop()
        finally:
            gateway.shutdown()
            gateway.proc.stdin.close()  # upon which Java ends
            gateway.proc.wait(60)


@contextmanager
def _environment(**wanted: str) -> Iterator[None]:
    """Have these variables, and none that lead Spark elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("SPARK_", "PYSPARK_", "HADOOP_", "JAVA_", "JDK_JAVA_", "_JAVA_")):
                patch.delenv(name)
        for name, value in wanted.items():
            patch.setenv(name, value)
        yield
