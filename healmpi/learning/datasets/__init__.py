"""The data sets that are shipped, a file each: `data.dataset` names one."""
