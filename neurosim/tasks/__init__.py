"""Data sets and generators: what a network is asked to learn."""

from neurosim.tasks.arrays import Arrays
from neurosim.tasks.bars import Bars
from neurosim.tasks.data import Data, Task
from neurosim.tasks.digits import Digits
from neurosim.tasks.idx import IdxFolder
from neurosim.tasks.images import Images
from neurosim.tasks.student_teacher import StudentTeacher, near_teacher
from neurosim.tasks.tables import Table
from neurosim.tasks.yin_yang import YinYang

TASKS: dict[str, type] = {
    "student-teacher": StudentTeacher,
    "bars": Bars,
    "yin-yang": YinYang,
    "digits": Digits,
    "idx": IdxFolder,
    "arrays": Arrays,
    "table": Table,
    "images": Images,
}

__all__ = [
    "TASKS",
    "Arrays",
    "Bars",
    "Data",
    "Digits",
    "IdxFolder",
    "Images",
    "StudentTeacher",
    "Table",
    "Task",
    "YinYang",
    "near_teacher",
]
