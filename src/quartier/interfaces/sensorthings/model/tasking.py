"""Tasking (17-079r1): Actuator, TaskingCapability, Task."""

from __future__ import annotations

from quartier.interfaces.sensorthings.facts import Entity, Link, Property
from quartier.interfaces.sensorthings.model import visible
from quartier.interfaces.sensorthings.model.shared import DESCRIPTION, ENCODING, ID, NAME, PROPERTIES

ACTUATOR = Entity(
    "Actuator",
    "Actuators",
    "sensorthings_actuator",
    "sensorthings_actuator {a}",
    (
        ID,
        NAME,
        DESCRIPTION,
        ENCODING,
        Property("metadata", "json", "{a}.metadata", column="metadata", mandatory=True),
        PROPERTIES,
    ),
    (Link("TaskingCapabilities", "TaskingCapability", True, "{c}.actuator_id = {p}.id"),),
    visible.actuator,
    requirement="tasking/actuator",
)

TASKING_CAPABILITY = Entity(
    "TaskingCapability",
    "TaskingCapabilities",
    "sensorthings_taskingcapability",
    "sensorthings_taskingcapability {a}",
    (
        ID,
        NAME,
        DESCRIPTION,
        Property(
            "taskingParameters",
            "json",
            "{a}.tasking_parameters",
            column="tasking_parameters",
            mandatory=True,
            nullable=False,
        ),
        PROPERTIES,
    ),
    (
        Link("Thing", "Thing", False, "{c}.id = {p}.thing_id", column="thing_id", mandatory=True),
        Link("Actuator", "Actuator", False, "{c}.id = {p}.actuator_id", column="actuator_id", mandatory=True),
        Link("Tasks", "Task", True, "{c}.capability_id = {p}.id"),
    ),
    visible.of_its_thing,
    joins=(("t", "JOIN twin_thing {a}_t ON {a}_t.id = {a}.thing_id"),),
    requirement="tasking/tasking-capability",
)

TASK = Entity(
    "Task",
    "Tasks",
    "sensorthings_task",
    "sensorthings_task {a}",
    (
        ID,
        Property(
            "taskingParameters",
            "json",
            "{a}.tasking_parameters",
            column="tasking_parameters",
            mandatory=True,
            nullable=False,
        ),
        Property(
            "creationTime",
            "instant",
            "{a}.creation_time",
            column="creation_time",
            writable=False,
            nullable=False,
        ),
        Property(
            "properties",
            "json",
            "jsonb_build_object('state', {a}.state, 'states', {a}.states)",
            writable=False,
            words="What became of it: state (accepted, sent, failed), and states with their times.",
        ),
    ),
    (
        Link(
            "TaskingCapability",
            "TaskingCapability",
            False,
            "{c}.id = {p}.capability_id",
            column="capability_id",
            mandatory=True,
        ),
    ),
    visible.of_its_thing,
    joins=(
        (
            "t",
            "JOIN sensorthings_taskingcapability {a}_tc ON {a}_tc.id = {a}.capability_id"
            " JOIN twin_thing {a}_t ON {a}_t.id = {a}_tc.thing_id",
        ),
    ),
    municipality="{a}_t.municipality_id",
    requirement="tasking/task",
)
