"""The "restricted" profile of Kubernetes' Pod Security Standards, for Linux pods: what a pod template must not have.

Written from kubernetes.io/docs/concepts/security/pod-security-standards. Restricted has all of baseline too. What a pod's
security context says holds for containers that do not say it themselves.
"""

from collections.abc import Iterator
from typing import Any

VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}  # fmt: skip
SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
SECCOMP_PROFILES = {"RuntimeDefault", "Localhost"}
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
Spec = dict[str, Any]


def violations(spec: Spec) -> list[str]:
    """Return what the profile forbids in a pod's spec, a line each; none if it is admitted."""
    return [
        *_of_pod(spec),
        *(line for kind in _KINDS for each in spec.get(kind, []) for line in _of_container(each, spec)),
    ]


_KINDS = ("initContainers", "containers", "ephemeralContainers")


def _of_pod(spec: Spec) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"{field} is true"
    for volume in spec.get("volumes", []):
        for kind in volume.keys() - {"name"} - VOLUMES:
            yield f"volume '{volume['name']}' is of the type {kind}"
    context = spec.get("securityContext", {})
    for sysctl in context.get("sysctls", []):
        if sysctl["name"] not in SAFE_SYSCTLS:
            yield f"sysctl {sysctl['name']} is not a safe one"
    yield from _of_context(context, "the pod")


def _of_container(container: Spec, spec: Spec) -> Iterator[str]:
    name = f"container '{container['name']}'"
    own = container.get("securityContext", {})
    yield from _of_user({**spec.get("securityContext", {}), **own}, name)
    yield from _of_privileges(own, name)
    yield from _of_context(own, name)
    yield from _of_the_node(container, name)


def _of_user(context: Spec, name: str) -> Iterator[str]:
    """Of what a container says itself or inherits."""
    if context.get("runAsNonRoot") is not True:
        yield f"{name} may run as root"
    if context.get("runAsUser") == 0:
        yield f"{name} runs as root"
    if context.get("seccompProfile", {}).get("type") not in SECCOMP_PROFILES:
        yield f"{name} has no seccomp profile"


def _of_privileges(own: Spec, name: str) -> Iterator[str]:
    """Of what a container must say itself."""
    if own.get("privileged"):
        yield f"{name} is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name} may escalate its privileges"
    if own.get("procMount", "Default") != "Default":
        yield f"{name} has its own kind of /proc"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield f"{name} does not drop ALL capabilities"
    for added in set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"{name} adds the capability {added}"


def _of_the_node(container: Spec, name: str) -> Iterator[str]:
    for port in container.get("ports", []):
        if port.get("hostPort"):
            yield f"{name} takes the node's port {port['hostPort']}"
    for handler in [container.get(probe, {}) for probe in PROBES] + list(container.get("lifecycle", {}).values()):
        for kind in ("httpGet", "tcpSocket"):
            if handler.get(kind, {}).get("host"):
                yield f"{name} has a probe or hook that asks the host {handler[kind]['host']}"


def _of_context(context: Spec, name: str) -> Iterator[str]:
    linux = context.get("seLinuxOptions", {})
    if linux.get("type", "") not in SELINUX_TYPES or linux.get("user") or linux.get("role"):
        yield f"{name} chooses its own SELinux context"
    if context.get("appArmorProfile", {}).get("type") == "Unconfined":
        yield f"{name} is not confined by AppArmor"
    if context.get("seccompProfile", {}).get("type") == "Unconfined":
        yield f"{name} is not confined by seccomp"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield f"{name} is a process of the node"
