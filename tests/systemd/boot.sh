# The first process of a SystemdBox (see sdbox.py), in fresh namespaces. It makes a root directory out of the
# host's own, goes there, and becomes systemd. All it mounts and writes dies with its mount namespace.
#
#   BOX      directory on the host: BOX/layer is laid over the host's files, BOX/instead holds directories
#            that are seen instead of the host's, BOX/mnt is an empty place to mount on
#   CGROUP   name of the box's control group
#   SITE     site-packages of the interpreter under test, and where to put a copy of it
#   SITE_AT
#   OPEN     directories that everyone may walk through (the way to an interpreter below /root)
#   BIND     directories on other file systems that are needed, too
#   HOMES    the host's directory that is /home
set -eu
umask 022
PATH=/usr/sbin:/usr/bin:/sbin:/bin
cd "$BOX/mnt"

if [ "${1-}" != in-own-cgroup ]; then
    mount -t tmpfs -o mode=755 box .
    cd "$BOX/mnt"
    mkdir upper work root cgroup

    # The kernel's whole cgroup2 tree, whatever the host has mounted where. 0 is the process that writes.
    mount -t cgroup2 none cgroup
    mkdir "cgroup/$CGROUP"
    echo 0 >"cgroup/$CGROUP/cgroup.procs"
    umount cgroup
    # A cgroup namespace is rooted where its first process is, hence this order.
    exec unshare --cgroup -- /bin/sh "$0" in-own-cgroup
fi

cp -a "$BOX/layer/." upper
if [ -n "$SITE" ]; then
    mkdir -p "upper$SITE_AT"
    cp -a "$SITE/." "upper$SITE_AT"
    # Whatever umask the checkout and the virtual environment were made with.
    chmod -R a+rX "upper$SITE_AT"
fi
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
cd root

for dir in $OPEN; do mkdir -p ".$dir"; chmod a+x ".$dir"; done
for dir in $BIND; do mkdir -p ".$dir"; mount --rbind -o ro "$dir" ".$dir"; done
(cd "$BOX/instead" && find . -mindepth 1 -name .here -printf '%h\n') | while read -r dir; do
    # No generator, no unit and no init script that the host has enabled may run in here.
    if [ -d "$dir" ]; then mount --bind "$BOX/instead/$dir" "$dir"; fi
done

mount -t proc -o nosuid,nodev,noexec proc proc
# As in any container: the kernel is the host's, and its settings are not ours to change.
for path in proc/sys proc/sysrq-trigger; do
    if [ -e "$path" ]; then
        mount --bind "$path" "$path"
        mount -o remount,bind,ro "$path"
    fi
done
# A new one at each boot, as a machine has it.
mount --bind "$BOX/boot_id" proc/sys/kernel/random/boot_id
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup

mount -t tmpfs -o nosuid,mode=755 dev dev
for device in null zero full random urandom tty autofs; do
    if [ -e "/dev/$device" ]; then
        : >"dev/$device"
        mount --bind "/dev/$device" "dev/$device"
    fi
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o nosuid,nodev,mode=1777 shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr

mount -t tmpfs -o nosuid,nodev,mode=755 run run
mount -t tmpfs -o nosuid,nodev,mode=1777 tmp tmp
mount --bind "$HOMES" home

old=$(mktemp -d old.XXXXXX)
pivot_root . "$old"
umount -l "$old"
rmdir "$old"
cd /
# Nothing in here shall be able to set the host's clock or load a module into its kernel.
exec env -i container=roundq-test PATH="$PATH" TERM=dumb \
    setpriv --bounding-set -sys_module,-sys_time,-sys_rawio,-sys_boot \
    /lib/systemd/systemd --unit=multi-user.target --show-status=yes
