"""The examples run, in every pairing of their languages, against a cluster that loses its leader meanwhile."""

import os
import re
import subprocess
import sys

import harness
from harness import Cluster, wait_for

EXAMPLES = os.path.join(harness.ROOT, "client", "examples")


def program(language, name):
    if language == "c++":
        return [os.path.join(harness.BIN, f"example_{name}")]
    return [sys.executable, "-B", os.path.join(EXAMPLES, f"{name}.py")]


class Examples(harness.TestCase):
    def start(self, language, name, *arguments):
        # The stubs are those that this test uses itself.
        process = subprocess.Popen([*program(language, name), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env={**os.environ, "TRIREME_STUBS": os.environ["PYTHONPATH"]})
        self.addCleanup(process.kill)
        return process

    def finish(self, process):
        output, errors = process.communicate(timeout=90)
        self.assertEqual(process.returncode, 0, errors)
        return output

    def test_each_producer_with_each_consumer(self):
        with Cluster() as cluster:
            for source in ("c++", "python"):
                for target in ("c++", "python"):
                    with self.subTest(producer=source, consumer=target):
                        queue = f"from-{source[0]}-to-{target[0]}"
                        cluster.create(queue)
                        consumer = self.start(target, "consumer", cluster.servers, queue, "2000")
                        producer = self.start(source, "producer", cluster.servers, queue, "2000")
                        self.assertIn("confirmed 2000", self.finish(producer))
                        self.assertEqual(self.numbers(self.finish(consumer)), list(range(1, 2001)))
                        wait_for("everything settled", lambda q=queue: cluster.figures(q).subscriptions[0].acknowledged == 2000)

    def test_they_survive_the_leader_and_a_second_run_goes_on(self):
        with Cluster() as cluster:
            for language in ("c++", "python"):
                with self.subTest(language=language):
                    queue = f"survive-{language[0]}"
                    cluster.create(queue)
                    consumer = self.start(language, "consumer", cluster.servers, queue, "100000")
                    producer = self.start(language, "producer", cluster.servers, queue, "100000", "ship")
                    wait_for("2,000 published", lambda q=queue: cluster.figures_anywhere(q).published >= 2000)
                    leader = cluster.leader(queue)
                    cluster.kill(leader)
                    self.assertIn("confirmed", self.finish(producer))
                    self.assertEqual(sorted(self.numbers(self.finish(consumer))), list(range(1, 100001)))
                    cluster.start(leader)
                    again = self.start(language, "producer", cluster.servers, queue, "100010", "ship")
                    self.assertIn("confirmed 10", self.finish(again))
                    self.assertEqual(cluster.figures_anywhere(queue).published, 100010)

    def test_what_the_documents_show(self):
        with Cluster(nodes=1) as cluster:
            # The commands of README.md, which leave nothing behind, then its C++ on the same queue.
            commands = re.search(r"```\n(export TRIREME_SERVER.*?)```", self.document("README.md"), re.DOTALL).group(1)
            done = subprocess.run(["bash", "-euc", commands.replace("127.0.0.1:7650", cluster.servers)], capture_output=True, text=True,
                                  env={**os.environ, "PATH": f"{harness.BIN}:{os.environ['PATH']}"}, timeout=60, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("two anchors", done.stdout)
            done = subprocess.run([os.path.join(harness.BIN, "readme_example"), cluster.servers], capture_output=True, text=True,
                                  timeout=60, check=False)
            self.assertEqual((done.returncode, done.stdout), (0, "two anchors\n"), done.stderr)
            wait_for("everything settled", lambda: cluster.figures("orders").subscriptions[0].acknowledged == 2)
            snippet = re.search(r"```python\n(import grpc.*?)```", self.document("docs/api.md"), re.DOTALL).group(1)
            done = subprocess.run([sys.executable, "-c", snippet.replace("127.0.0.1:7650", cluster.servers)], capture_output=True,
                                  text=True, timeout=60, check=False)
            self.assertEqual((done.returncode, done.stdout), (0, "1 b'two anchors'\n"), done.stderr)
            self.assertEqual(cluster.figures("orders").subscriptions[0].acknowledged, 3)

    @staticmethod
    def document(path):
        with open(os.path.join(harness.ROOT, path), encoding="utf-8") as file:
            return file.read()

    @staticmethod
    def numbers(output):
        return [int(number) for number in re.findall(r"message (\d+)", output)]


if __name__ == "__main__":
    harness.main()
