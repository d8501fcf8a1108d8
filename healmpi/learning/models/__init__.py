"""Networks: the ones that are shipped, a file each (`model.name` names one), a user's own, and the flat vector that holds one."""
