"""The averaging rules that are shipped, a file each: `rule.average` names one."""
