#!/bin/sh
# SPDX-License-Identifier: MIT
#
# boot.sh: the installed examples on a Debian that systemd boots, in a container: the drop-in of a service, environment.d
# of a user, and /etc/ld.so.preload for all of it, process 1 included. Prints TAP. Run by `make check-boot`, as root and
# after check-packages, whose packages and tree it takes; needs systemd-nspawn and downloads systemd and redis. Works in
# ./packages/boot.
set -u
src=$(cd "${HK_SRCDIR:-$(dirname "$0")/../..}" && pwd)
unset HK_LIB
. "$src/tests/integration/tap.sh"
top=${HK_PACKAGES_DIR:-$PWD/packages}
root=$top/boot

have systemd-nspawn || { skip "boot" "no systemd-nspawn (systemd-container)"; finish; }
test "$(id -u)" -eq 0 || { skip "boot" "not root"; finish; }
test -e "$top/root/done" || { skip "boot" "no tree: make check-packages first"; finish; }

rm -rf "$root"
cp -a "$top/root" "$root"
cp "$top"/build-one/build/libhakmem0_*.deb "$root/packages/libhakmem0.deb"
cp "$top"/build-one/build/hakmem-tools_*.deb "$root/packages/hakmem-tools.deb"
DEBIAN_FRONTEND=noninteractive timeout 600 chroot "$root" apt-get install -y --no-install-recommends \
    systemd systemd-sysv dbus libpam-systemd redis-server /packages/libhakmem0.deb /packages/hakmem-tools.deb \
    >"$top/boot.log" 2>&1 || { not_ok "install" "$(tail -3 "$top/boot.log")"; finish; }
chroot "$root" useradd -m -s /bin/sh -u 1000 user

cat >"$root/root/try.sh" <<'STEPS'
exec >>/results 2>&1
examples=/usr/share/doc/hakmem-tools/examples
say() { if test "$2" -eq 0; then echo "good $1"; else echo "bad $1"; fi; }
loaded() { grep -q libhakmem "/proc/$1/maps"; }
redis() { systemctl show -p MainPID --value redis-server; }
answers() { for second in 1 2 3 4 5 6 7 8 9 10; do redis-cli ping 2>/dev/null | grep -q PONG && return; sleep 1; done; return 1; }
of_user() { # a unit of the user's: the number of lines of its own maps that name the library
    loginctl enable-linger user
    systemctl start user@1000
    rm -f /home/user/out
    su user -c 'XDG_RUNTIME_DIR=/run/user/1000 systemctl --user start try.service'
    cat /home/user/out
    systemctl stop user@1000
    loginctl disable-linger user
}
if test ! -e /etc/ld.so.preload; then
    test "$(systemctl is-system-running --wait)" = running && ! loaded 1 && ! loaded "$(redis)"
    say "control: booted without the library" $?

    mkdir -p /etc/systemd/system/redis-server.service.d
    cp $examples/systemd-drop-in.conf /etc/systemd/system/redis-server.service.d/hakmem.conf
    test -z "$(systemd-analyze verify redis-server.service 2>&1)"
    say "systemd-analyze verify has nothing to say of the drop-in" $?
    systemctl daemon-reload && systemctl restart redis-server && answers && loaded "$(redis)" &&
        hakmem-stats config "$(redis)" | grep -q 'limit *auto.*environment'
    say "a sandboxed service with the drop-in" $?
    rm -r /etc/systemd/system/redis-server.service.d
    systemctl daemon-reload && systemctl restart redis-server && answers && ! loaded "$(redis)"
    say "and without it again" $?

    mkdir -p /home/user/.config/environment.d /home/user/.config/systemd/user
    printf '[Service]\nType=oneshot\nExecStart=/bin/grep -c libhakmem /proc/self/maps\nStandardOutput=file:/home/user/out\n' \
        >/home/user/.config/systemd/user/try.service
    chown -R user: /home/user
    test "$(of_user)" = 0
    say "control: a user without environment.d" $?
    cp $examples/environment.d.conf /home/user/.config/environment.d/50-hakmem.conf
    test "$(of_user)" -gt 0
    say "a user with environment.d" $?
    rm /home/user/.config/environment.d/50-hakmem.conf

    echo libhakmem.so.0 >/etc/ld.so.preload.new && mv /etc/ld.so.preload.new /etc/ld.so.preload
    systemctl daemon-reexec && loaded 1
    say "/etc/ld.so.preload: process 1 starts anew under the library" $?
else
    test "$(systemctl is-system-running --wait)" = running && loaded 1 && loaded "$(redis)" && answers
    say "/etc/ld.so.preload: the system boots, no unit fails" $?
    test "$(hakmem-stats list | grep -cE ' (systemd|dbus-daemon|redis-server|systemd-logind) ')" -ge 4 &&
        hakmem-stats show 1 >/dev/null
    say "hakmem-stats sees the system's processes" $?
    test "$(of_user)" -gt 0
    say "and a user's" $?
    : >/etc/ld.so.preload.new && mv /etc/ld.so.preload.new /etc/ld.so.preload
    test -z "$(dpkg -r hakmem-tools libhakmem0 2>&1 | grep -i preload)" && test "$(systemctl is-system-running)" = running
    say "emptied, and the packages removed" $?
fi
systemctl poweroff
STEPS
mkdir -p "$root/etc/systemd/system/default.target.wants"
printf '[Unit]\nAfter=multi-user.target\n[Service]\nExecStart=/bin/sh /root/try.sh\n' >"$root/etc/systemd/system/try.service"
ln -s ../try.service "$root/etc/systemd/system/default.target.wants/try.service"
for boot in 1 2; do
    timeout 300 systemd-nspawn -q --register=no --keep-unit -b -D "$root" </dev/null >"$top/boot$boot.log" 2>&1
done
while read -r verdict name; do
    case $verdict in
    good) ok "$name" ;;
    bad) not_ok "$name" "$(tail -3 "$top"/boot?.log)" ;;
    esac
done <"$root/results"
test "$nr_points" -eq 11 || not_ok "all steps" "$(tail -5 "$root/results")"
rm -rf "$root"
finish
