"""Calling kubectl: the only place that does.

kubectl and not the official Python client: that one installs 27 distributions of 103 MB, for a dozen calls a
minute that kubectl, which everybody with a cluster has, makes as well, with every way of logging in.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import yaml

from aibench.errors import LauncherError

ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CALL_TIMEOUT_S = 60.0


def in_cluster() -> bool:
    """Whether this process runs in a pod that may ask the cluster."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and (ACCOUNT_DIR / "token").is_file()


class Kubectl:
    """One namespace of one cluster.

    Args:
        context: None for the kubeconfig's current one, or, in a pod, for its ServiceAccount.
        namespace: None for the context's or the pod's own.
    """

    def __init__(self, *, context: str | None, namespace: str | None) -> None:
        self._context = context
        self._namespace = namespace

    def namespace(self) -> str:
        """Name of the namespace.

        Raises:
            LauncherError: There is no configuration that says it.
        """
        if self._namespace is None:
            self._namespace = self._own_namespace()
        return self._namespace

    def require(self) -> None:
        """Refuse a machine without kubectl or without a cluster for it.

        Raises:
            LauncherError: One is missing.
        """
        if shutil.which("kubectl") is None:
            raise LauncherError("kubectl is not here; expected it on PATH (the launcher kubernetes calls it)")
        if not in_cluster() and self._context is None:
            with _explained(
                "no cluster is configured (kubeconfig without current context; KUBECONFIG, launcher.context)"
            ):
                self._call(["config", "current-context"])

    def server(self) -> str:
        """URL of the API server, as the kubeconfig has it."""
        return self._call(
            ["config", "view", "--minify", "--output", "jsonpath={.clusters[0].cluster.server}"]
        ).strip()

    def get(self, kinds: str, *selectors: str) -> list[Mapping[str, Any]]:
        """All objects of some kinds with some labels."""
        text = self._ask(["get", kinds, "--selector", ",".join(selectors), "--output", "json"])
        return list(_decoded(text)["items"])

    def exists(self, kind: str, name: str) -> bool:
        """Whether there is one of that name."""
        return bool(self._ask(["get", kind, name, "--ignore-not-found", "--output", "name"]).strip())

    def has_namespace(self) -> bool:
        """Whether the namespace exists, as far as this account may know."""
        try:
            return bool(
                self._ask(["get", "namespace", self.namespace(), "--ignore-not-found", "--output=name"])
            )
        except LauncherError:
            return True

    def create(self, manifests: Sequence[Mapping[str, Any]]) -> str:
        """Create objects; the unique id of the last."""
        document = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
        output = ["--output", "jsonpath={.metadata.uid}{'\\n'}"]
        return self._ask(["create", "--filename", "-", *output], document).split()[-1]

    def apply_unread(self, manifest: Mapping[str, Any]) -> None:
        """Create or replace an object without the right to read it, as fits a secret."""
        flags = ["--server-side", "--force-conflicts", "--field-manager", "aibench", "--validate=false"]
        self._ask(["apply", *flags, "--filename", "-"], yaml.safe_dump(manifest))

    def annotate_pods(self, selector: str, note: str) -> None:
        """Note something at pods, which makes their nodes look after their volumes at once."""
        self._ask(["annotate", "pods", "--selector", selector, "--overwrite", note])

    def may(self, permissions: Sequence[tuple[str, str, str]]) -> list[bool]:
        """Whether each of (verb, API group, resource) is allowed, as ``kubectl auth can-i`` tells."""
        reviews = [_review(self.namespace(), *permission) for permission in permissions]
        document = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": reviews})
        output = ["--validate=false", "--output", "jsonpath={.status.allowed}{'\\n'}"]
        return [
            word == "true" for word in self._ask(["create", "--filename", "-", *output], document).split()
        ]

    def delete(self, kinds: str, *selectors: str, force: bool = False) -> None:
        """Begin to delete all objects of some kinds with some labels, and what they own."""
        forced = ["--force", "--grace-period=0"] if force else []
        labels = ",".join(selectors)
        self._ask(["delete", kinds, "--selector", labels, "--ignore-not-found", "--wait=false", *forced])

    def delete_named(self, kind: str, name: str) -> None:
        """Begin to delete one object, without the right to read it."""
        self._ask(["delete", kind, name, "--ignore-not-found", "--wait=false"])

    def logs(self, selector: str) -> Iterator[tuple[str, str]]:
        """Lines of all pods with some labels, each with its pod's name."""
        flags = ["--all-containers", "--tail=-1", "--prefix", "--ignore-errors", f"--selector={selector}"]
        with self._reading(["logs", *flags], must_succeed=True) as stream:
            for raw in stream:
                line = raw.decode(errors="replace").rstrip("\n")
                source, separator, text = line.partition("] ")
                if separator and source.startswith("[pod/"):
                    yield source.split("/")[1], text

    def follow(self, pod: str, container: str) -> Iterator[str]:
        """Lines of a container until it ends or the connection does."""
        with self._reading(["logs", "--follow", pod, "--container", container]) as stream:
            for raw in stream:
                yield raw.decode(errors="replace").rstrip("\n")

    @contextlib.contextmanager
    def reading_from(self, pod: str, container: str, program: Sequence[str]) -> Iterator[IO[bytes]]:
        """What a program in a container writes.

        Raises:
            LauncherError: It failed, said after everything was read.
        """
        with self._reading(
            ["exec", pod, "--container", container, "--", *program], must_succeed=True
        ) as stream:
            yield stream

    def run_in(self, pod: str, container: str, program: Sequence[str]) -> None:
        """Run a program in a container."""
        self._ask(["exec", pod, "--container", container, "--", *program])

    def _own_namespace(self) -> str:
        if in_cluster():
            return (ACCOUNT_DIR / "namespace").read_text().strip()
        text = self._call(["config", "view", "--minify", "--output", "jsonpath={..namespace}"]).strip()
        return text or "default"

    def _ask(self, arguments: Sequence[str], text: str = "") -> str:
        # No --request-timeout: with it, kubectl in a pod looks for a cluster on localhost.
        return self._call(["--namespace", self.namespace(), *arguments], text)

    def _argv(self, arguments: Sequence[str]) -> list[str]:
        context = ["--context", self._context] if self._context and not in_cluster() else []
        return ["kubectl", *context, *arguments]

    def _call(self, arguments: Sequence[str], text: str = "") -> str:
        try:
            done = subprocess.run(
                self._argv(arguments),
                input=text,
                capture_output=True,
                text=True,
                timeout=CALL_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise LauncherError(f"kubectl did not answer within {CALL_TIMEOUT_S:g} s") from error
        except OSError as error:
            raise LauncherError(f"kubectl cannot be run ({error.strerror})") from error
        if done.returncode != 0:
            raise LauncherError(_complaint(done.stderr))
        return done.stdout

    @contextlib.contextmanager
    def _reading(self, arguments: Sequence[str], *, must_succeed: bool = False) -> Iterator[IO[bytes]]:
        argv = self._argv(["--namespace", self.namespace(), *arguments])
        with subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            assert child.stderr is not None
            try:
                yield child.stdout
                said = child.stderr.read().decode(errors="replace")
            except BaseException:
                child.kill()
                raise
        if must_succeed and child.returncode != 0:
            raise LauncherError(_complaint(said))


def _review(namespace: str, verb: str, group: str, resource: str) -> dict[str, Any]:
    kind, _, part = resource.partition("/")
    wanted = {"namespace": namespace, "verb": verb, "group": group, "resource": kind, "subresource": part}
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": wanted},
    }


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise LauncherError(f"kubectl answered something that is not JSON ({error})") from error


def _complaint(stderr: str) -> str:
    """What kubectl complained of, in one line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("WARNING", "Warning:", "I1", "W1", "E1"))]
    return f"kubectl: {' '.join(told or lines or ['it failed without a word'])}"


@contextlib.contextmanager
def _explained(problem: str) -> Iterator[None]:
    try:
        yield
    except LauncherError as error:
        raise LauncherError(f"{problem}: {error}") from error
