"""A configuration of nginx that runs in the foreground, as one process or with workers, and writes in one folder only."""

KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def configuration(folder, web, connections=512, name="nginx", workers=1):
    """With `web` in its http block. nginx writes `NAME.pid` into the folder once it listens."""
    temporary = "\n".join(f"    {kind}_temp_path {folder}/{kind};" for kind in KINDS)
    return f"""
daemon off;
master_process {"off" if workers == 1 else "on"};
worker_processes {workers};
pid {folder}/{name}.pid;
error_log stderr warn;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
{temporary}
{web}
}}
"""
