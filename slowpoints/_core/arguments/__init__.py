"""Checks of arguments: one rule for each kind of argument, shared by all public functions.

Every refusal says which function and which argument it is about, what the argument was, and what
was expected. Nothing is computed or compiled before, and traced values are checked only for what is
known of them, their shapes and types.

Callers find all rules under this one name: `arguments.number`, `arguments.array` and so on. They
are in `settings` and in `arrays`, and what their messages are made of is in `refusals`.
"""

from slowpoints._core.arguments.arrays import TO_VECTORS as TO_VECTORS
from slowpoints._core.arguments.arrays import array as array
from slowpoints._core.arguments.arrays import as_array as as_array
from slowpoints._core.arguments.arrays import box_of_states as box_of_states
from slowpoints._core.arguments.arrays import check_finite as check_finite
from slowpoints._core.arguments.arrays import check_precision as check_precision
from slowpoints._core.arguments.arrays import direction as direction
from slowpoints._core.arguments.arrays import if_transposed as if_transposed
from slowpoints._core.arguments.arrays import inputs_of_rows as inputs_of_rows
from slowpoints._core.arguments.arrays import labels as labels
from slowpoints._core.arguments.arrays import mask as mask
from slowpoints._core.arguments.arrays import trajectories as trajectories
from slowpoints._core.arguments.refusals import found as found
from slowpoints._core.arguments.refusals import refuse as refuse
from slowpoints._core.arguments.settings import choice as choice
from slowpoints._core.arguments.settings import devices as devices
from slowpoints._core.arguments.settings import fields as fields
from slowpoints._core.arguments.settings import flag as flag
from slowpoints._core.arguments.settings import function as function
from slowpoints._core.arguments.settings import instance as instance
from slowpoints._core.arguments.settings import number as number
from slowpoints._core.arguments.settings import path as path
from slowpoints._core.arguments.settings import positive as positive
from slowpoints._core.arguments.settings import random_key as random_key
from slowpoints._core.arguments.settings import seed as seed
from slowpoints._core.arguments.settings import whole as whole
