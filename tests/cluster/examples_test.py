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

    @staticmethod
    def numbers(output):
        return [int(number) for number in re.findall(r"message (\d+)", output)]


if __name__ == "__main__":
    harness.main()
