from collections.abc import Callable
from pathlib import Path

import pytest

from aibench.errors import LauncherError
from launchers.kubernetes_commands import Kubectl
from launchers.kubernetes_permissions import MASTER_PERMISSIONS, require_permissions

MakeKubectl = Callable[[str], Path]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeKubectl:
    """Puts a script called kubectl on PATH; returns the file with the arguments that it was given."""

    def make(script: str) -> Path:
        program, given = tmp_path / "kubectl", tmp_path / "given"
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {given}\n{script}\n')
        program.chmod(0o755)
        return given

    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return make


def kubectl() -> Kubectl:
    return Kubectl(context="there", namespace="ns")


def test_every_call_names_context_and_namespace(fake: MakeKubectl) -> None:
    given = fake("""echo '{"items": [{"kind": "Pod"}]}'""")
    assert kubectl().get("pods", "a=b", "c=d") == [{"kind": "Pod"}]
    words = ["--context", "there", "--namespace", "ns", "get", "pods", "--selector", "a=b,c=d"]
    assert given.read_text().split() == [*words, "--output", "json"]


def test_a_complaint_is_one_line_without_warnings(fake: MakeKubectl) -> None:
    fake("echo 'WARNING: version skew' >&2; echo 'Error from server (Forbidden):' >&2; echo no >&2; exit 1")
    with pytest.raises(LauncherError) as refused:
        kubectl().get("pods")
    assert str(refused.value) == "kubectl: Error from server (Forbidden): no"


def test_an_answer_that_is_not_json_is_refused(fake: MakeKubectl) -> None:
    fake("echo hello")
    with pytest.raises(LauncherError, match="not JSON"):
        kubectl().get("pods")


def test_secrets_are_on_no_command_line(fake: MakeKubectl) -> None:
    given = fake("cat > /dev/null")
    kubectl().apply_unread({"kind": "Secret", "stringData": {"a": "the-token"}})
    assert "the-token" not in given.read_text()


def test_output_is_split_by_pod(fake: MakeKubectl) -> None:
    fake("echo '[pod/a-1/aibench] one'; echo '[pod/b-2/aibench] [x] two'; echo 'torn'")
    assert list(kubectl().logs("a=b")) == [("a-1", "one"), ("b-2", "[x] two")]


def test_a_program_that_fails_in_a_pod_is_an_error_after_its_output(fake: MakeKubectl) -> None:
    fake("echo some; echo 'error: lost' >&2; exit 1")
    with (
        pytest.raises(LauncherError, match="kubectl: error: lost"),
        kubectl().reading_from("pod", "aibench", ["python3"]) as stream,
    ):
        assert stream.read() == b"some\n"


def test_a_missing_kubectl_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LauncherError, match="kubectl is not here; expected it on PATH"):
        kubectl().require()


def test_missing_permissions_are_named_with_the_role_that_has_them(fake: MakeKubectl) -> None:
    answers = ["false" if verb == "patch" else "true" for verb, _, _ in MASTER_PERMISSIONS]
    fake("cat > /dev/null; printf '" + "\\n".join(answers) + "\\n'")
    with pytest.raises(LauncherError) as refused:
        require_permissions(kubectl(), MASTER_PERMISSIONS, role="aibench-master")
    assert str(refused.value) == (
        "namespace ns: this account may not patch pods, patch secrets, patch services; "
        "bind it to the Role aibench-master (kubectl apply -k k8s/base)"
    )


def test_a_missing_namespace_is_named(fake: MakeKubectl) -> None:
    answers = "true\\n" * len(MASTER_PERMISSIONS)
    fake(f'case "$*" in *create*) cat > /dev/null; printf "{answers}";; esac')
    with pytest.raises(LauncherError, match=r"namespace ns does not exist \(launcher.namespace\)"):
        require_permissions(kubectl(), MASTER_PERMISSIONS, role="aibench-master")


def test_reviews_ask_for_subresources(fake: MakeKubectl, tmp_path: Path) -> None:
    fake(f"cat > {tmp_path}/asked; echo true")
    assert kubectl().may([("create", "", "pods/exec")]) == [True]
    assert "subresource: exec" in (tmp_path / "asked").read_text()
