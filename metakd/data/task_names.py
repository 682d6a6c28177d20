"""What a task's models tell apart: its classes and its domains."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from metakd.config import Task
from metakd.data.labels import Labels
from metakd.data.tables import label_and_domain_names
from metakd.errors import InputError, name_list


def labels_and_domains(
    task: Task, domain: str = "", names_of: Callable[..., tuple[list[str], list[str]]] = label_and_domain_names
) -> tuple[Labels, list[str]]:
    """The classes of a task's models, none if no row has a label, and the names of its domains.

    Args:
        domain: whose model it is, which has that domain's classes alone if the task's domains have classes of their
            own; "" for a model of all domains.
        names_of: reads the names of a table, perhaps from a cache.

    Raises:
        TableError: see `metakd.data.tables.read_rows`.
    """
    own = domain if task.own_labels else ""
    found, domains = names_of(task.train, task.problem, own)
    labels = Labels(tuple(task.labels or found), task.problem)
    return labels.of_domain(own, found) if own else labels, task.domains or domains


def require_known_elsewhere(domain: str, classes: Mapping[str, Collection[str]]) -> None:
    """Refuse a domain whose labels are hidden from its teacher, if no other domain has its classes.

    Args:
        classes: of the training table by domain.
    """
    elsewhere = {name for other, names in classes.items() if other != domain for name in names}
    if unknown := sorted(set(classes.get(domain, ())) - elsewhere):
        raise InputError(
            f"all labels of domain {domain!r} are hidden, but no other domain has the classes {name_list(unknown)}; "
            "let its teacher see some labels of each"
        )
