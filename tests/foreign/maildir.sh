#!/usr/bin/env bash
# A mail folder: deliverers write to tmp/ and link or rename to new/, readers move to cur/ with
# flags and expunge. Every message arrives once and whole.
source "$(dirname "$0")/kit.sh"

deliverers=4 letters=250
if [[ $QUICK ]]; then letters=50; fi
mkdir -p "$M"/box/{tmp,new,cur}

deliver() {
	python3 - "$M/box" "$1" $letters <<'PYTHON'
import hashlib, os, sys
box, who, letters = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for n in range(letters):
    body = os.urandom(40 + n * 97 % 9000).hex().encode()
    name = "%d.%d.host" % (who, n)
    with open(box + "/tmp/" + name, "xb") as f:
        f.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        f.flush()
        os.fsync(f.fileno())
    if n % 2:
        os.link(box + "/tmp/" + name, box + "/new/" + name)
        os.unlink(box + "/tmp/" + name)
    else:
        os.rename(box + "/tmp/" + name, box + "/new/" + name)
PYTHON
}

# Takes what it finds in new/; another reader may be faster. Ends when all letters were seen.
collect() {
	python3 - "$M/box" $(( deliverers * letters )) "$1" <<'PYTHON'
import hashlib, os, sys, time
box, total, report = sys.argv[1], int(sys.argv[2]), sys.argv[3]
mine, end = [], time.monotonic() + 500
while len(os.listdir(box + "/cur")) < total and time.monotonic() < end:
    for name in os.listdir(box + "/new"):
        try:
            os.rename(box + "/new/" + name, box + "/cur/" + name + ":2,S")
        except FileNotFoundError:
            continue
        with open(box + "/cur/" + name + ":2,S", "rb") as f:
            digest, body = f.read().split(b"\n")
        assert hashlib.sha256(body).hexdigest().encode() == digest, name
        mine.append(name)
open(report, "w").write("".join(n + "\n" for n in mine))
PYTHON
}

crowd=()
for (( who = 0; who < deliverers; who++ )); do deliver $who & crowd+=($!); done
for reader in 1 2; do collect "$D/report.$reader" & crowd+=($!); done
for pid in "${crowd[@]}"; do wait "$pid" || fail "a client"; done
[[ $(sort "$D"/report.* | uniq | wc -l) == $(( deliverers * letters )) ]] ||
	fail "letters are missing"
[[ -z $(sort "$D"/report.* | uniq -d) ]] || fail "letters came twice"
[[ -z $(ls "$M/box/new" "$M/box/tmp" | grep host) ]] || fail "letters are left"
keeps
[[ $(ls "$M/box/cur" | wc -l) == $(( deliverers * letters )) ]] || fail "letters were lost"
find "$M/box/cur" -name '*3.host*' -delete
keeps
stop
