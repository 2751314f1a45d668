"""Servers, their data and their clients."""

from __future__ import annotations

from catalogue.describing import CLIENT_SAW_THE_SAME, Group, Workload, printed

_REDIS_FILL = """
for n in $(seq 20000); do echo "SET key:$n $n:$(printf '%0200d' $n)"; done | redis-cli --pipe >/dev/null
redis-cli ZADD board 1 a 2 b 3 c >/dev/null
redis-cli DEBUG DIGEST
redis-cli DBSIZE
"""

_MEMCACHED = """
exec 3<>/dev/tcp/127.0.0.1/11211
{0}
for n in $(seq 200); do printf 'get key%d\\r\\n' $n; done >&3
printf 'quit\\r\\n' >&3
cat <&3 | grep -v STORED
"""
_MEMCACHED_FILL = r"for n in $(seq 200); do printf 'set key%d 0 0 7\r\nvalue%02d\r\n' $n $((n % 100)); done >&3"

_POSTGRES = """
export PGDATA=/tmp/data PGHOST=/tmp PGUSER=nobody
bin=$(echo /usr/lib/postgresql/*/bin)
$bin/initdb --auth=trust --no-sync --no-instructions >/dev/null
$bin/postgres -c listen_addresses=127.0.0.1 -c unix_socket_directories=/tmp -c fsync=off &
until $bin/pg_isready -q; do sleep 0.1; done
$bin/pgbench --initialize --quiet --scale 2 postgres >/dev/null 2>&1
echo serving
done=0
while ((done < 12)); do
    $bin/pgbench --client 4 --time 1 --no-vacuum postgres >/dev/null 2>&1 && done=$((done + 1)) || sleep 0.1
    echo "load $done"
done
psql="$bin/psql --no-psqlrc --tuples-only --no-align postgres"
$psql -c "select 'balanced'
    where (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)
    and (select sum(bbalance) from pgbench_branches) = (select sum(tbalance) from pgbench_tellers)"
kill -INT $!
wait
"""

_SQLITE = """
cat >/tmp/work.sql <<END
pragma journal_mode = wal;
create table numbers(n integer primary key, square integer, word text);
END
for part in $(seq 40); do
    cat >>/tmp/work.sql <<END
begin;
with recursive up(n) as (select $part * 10000 union all select n + 1 from up where n < $part * 10000 + 9999)
    insert into numbers select n, n * n, hex(n * 7919) from up;
commit;
.shell echo part $part
END
done
echo "pragma integrity_check; select count(*), sum(square), max(word) from numbers;" >>/tmp/work.sql
sqlite3 /tmp/numbers.db </tmp/work.sql
"""

_ETCD = "for n in $(seq 30); do etcdctl put key$n value$n >/dev/null; done; etcdctl get --prefix key"

_NGINX = """
openssl enc -aes-128-ctr -pass pass:x -nosalt -md sha256 </dev/zero 2>/dev/null | head -c 8M >/tmp/file
cat >/tmp/nginx.conf <<END
pid /tmp/nginx.pid;
error_log stderr;
worker_processes 2;
events {}
http {
    access_log off;
    client_body_temp_path /tmp/a; proxy_temp_path /tmp/b; fastcgi_temp_path /tmp/c;
    uwsgi_temp_path /tmp/d; scgi_temp_path /tmp/e;
    server { listen 8080 backlog=64; root /tmp; limit_rate {RATE}; }
}
END
"""
_SERVE = _NGINX.replace("{RATE}", "0") + "echo serving; exec nginx -c /tmp/nginx.conf -g 'daemon off; user root;'"
_FETCH = "curl --silent --show-error --fail --retry 20 --retry-connrefused http://127.0.0.1:8080/file | sha256sum"

_DOWNLOAD = (
    _NGINX.replace("{RATE}", "2m")
    + """
nginx -c /tmp/nginx.conf -g 'daemon off; user root;' &
sleep 0.5
echo serving
until curl --silent --fail --continue-at - --output /tmp/copy http://127.0.0.1:8080/file; do
    echo again
    sleep 0.2
done
sha256sum </tmp/copy
cmp /tmp/file /tmp/copy && echo same
kill -QUIT $!
wait
"""
)

_DAEMON = (
    _NGINX.replace("{RATE}", "0")
    + """
nginx -c /tmp/nginx.conf -g 'user root;'
echo serving
sleep 600
"""
)

_WATCHED = """
mkdir /tmp/watched
inotifywait --quiet --monitor --event close_write --format '%f' /tmp/watched &
sleep 0.5
for n in $(seq 60); do echo $n >/tmp/watched/file$n; sleep 0.05; done
sleep 0.3
kill $!
"""

GROUP = Group(
    title="Servers and their clients",
    workloads=(
        Workload(
            name="redis",
            program="Redis",
            does="20,000 keys; a client fills it, another compares the digest of the data",
            packages=("redis-server",),
            words=("redis-server", "--save", "", "--enable-debug-command", "local"),
            progress="Ready to accept connections",
            before=("bash", "-c", _REDIS_FILL),
            after=("bash", "-c", "redis-cli DEBUG DIGEST; redis-cli DBSIZE"),
            ends=False,
            check=CLIENT_SAW_THE_SAME,
        ),
        Workload(
            name="memcached",
            program="memcached",
            does="200 keys; a client reads them before and after",
            packages=("memcached",),
            words=("bash", "-c", "echo begun; exec memcached --user=root --listen=127.0.0.1"),
            progress="begun",
            settle_s=0.5,
            before=("bash", "-c", _MEMCACHED.format(_MEMCACHED_FILL)),
            after=("bash", "-c", _MEMCACHED.format("")),
            ends=False,
            check=CLIENT_SAW_THE_SAME,
        ),
        Workload(
            name="postgresql",
            program="PostgreSQL",
            does="pgbench again and again; its books balance in the end",
            packages=("postgresql-17",),
            words=("bash", "-c", _POSTGRES),
            progress="^load 3",
            settle_s=0.5,
            uid=65534,
            check=printed("^balanced"),
        ),
        Workload(
            name="sqlite",
            program="SQLite",
            does="400,000 rows in 40 transactions with a write-ahead log",
            packages=("sqlite3",),
            words=("bash", "-c", _SQLITE),
            progress="^part 10",
        ),
        Workload(
            name="etcd",
            program="etcd (Go)",
            does="keys in a database that it maps into memory",
            packages=("etcd-server", "etcd-client"),
            words=("etcd", "--data-dir", "/tmp/etcd", "--log-outputs", "stdout"),
            progress="ready to serve client requests",
            settle_s=0.5,
            before=("bash", "-c", _ETCD),
            after=("bash", "-c", "etcdctl put another key >/dev/null && etcdctl get --prefix key"),
            ends=False,
            check=CLIENT_SAW_THE_SAME,
        ),
        Workload(
            name="nginx",
            program="nginx",
            does="serves a file before and after",
            packages=("nginx-light", "curl", "openssl"),
            versioned="nginx",
            words=("bash", "-c", _SERVE),
            progress="serving",
            settle_s=0.5,
            before=("bash", "-c", _FETCH),
            after=("bash", "-c", _FETCH),
            ends=False,
            check=CLIENT_SAW_THE_SAME,
        ),
        Workload(
            name="nginx-daemon",
            program="nginx",
            does="the same as a daemon, whose parent and session leader have ended",
            packages=("nginx-light", "curl", "openssl"),
            versioned="nginx",
            words=("bash", "-c", _DAEMON),
            progress="serving",
            settle_s=0.5,
            before=("bash", "-c", _FETCH),
            after=("bash", "-c", _FETCH),
            ends=False,
            check=CLIENT_SAW_THE_SAME,
        ),
        Workload(
            name="download",
            program="curl",
            does="a slow download over TCP inside the container; the move cuts it off, curl goes on from there",
            packages=("nginx-light", "curl", "openssl"),
            versioned="curl",
            words=("bash", "-c", _DOWNLOAD),
            progress="serving",
            settle_s=1.0,
            check=printed("^same"),
        ),
        Workload(
            name="inotifywait",
            program="inotifywait",
            does="watches a directory in which files appear",
            packages=("inotify-tools",),
            words=("bash", "-c", _WATCHED),
            progress="^file20$",
        ),
    ),
)
