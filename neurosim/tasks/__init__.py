"""Data sets and generators: what a network is asked to learn."""

from neurosim.tasks.arrays import Arrays
from neurosim.tasks.bars import Bars
from neurosim.tasks.cifar10 import Cifar10
from neurosim.tasks.data import Data, Task
from neurosim.tasks.digits import Digits
from neurosim.tasks.idx import IdxFolder
from neurosim.tasks.images import Images
from neurosim.tasks.student_teacher import StudentTeacher, near_teacher
from neurosim.tasks.tables import Table
from neurosim.tasks.xor import Xor
from neurosim.tasks.yin_yang import YinYang

TASKS: dict[str, type] = {
    "student-teacher": StudentTeacher,
    "bars": Bars,
    "xor": Xor,
    "yin-yang": YinYang,
    "digits": Digits,
    "idx": IdxFolder,
    "cifar10": Cifar10,
    "arrays": Arrays,
    "table": Table,
    "images": Images,
}

__all__ = [
    "TASKS",
    "Arrays",
    "Bars",
    "Cifar10",
    "Data",
    "Digits",
    "IdxFolder",
    "Images",
    "StudentTeacher",
    "Table",
    "Task",
    "Xor",
    "YinYang",
    "near_teacher",
]
