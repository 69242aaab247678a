#!/bin/sh
# The programs gearman and gearadmin (Debian's gearman-tools) as the peer that ../README.md describes.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
action=$1 port=$2 function=$3
shift 3

case $action in
worker)
    exec gearman -h 127.0.0.1 -p "$port" -w -f "$function" "$here/$1" 2>&1
    ;;
foreground)
    file=$1 unique=$2
    exec gearman -h 127.0.0.1 -p "$port" ${unique:+-u "$unique"} -f "$function" <"$file"
    ;;
background) # prints nothing of the job: the program does not show the handle
    workload=$1 priority=$2 unique=$3
    case $priority in high) flag=-I ;; low) flag=-L ;; *) flag= ;; esac
    printf %s "$workload" | gearman -h 127.0.0.1 -p "$port" -b $flag ${unique:+-u "$unique"} -f "$function"
    ;;
admin)
    ask() { gearadmin -h 127.0.0.1 -p "$port" "--$1"; }
    ask server-version | sed -n 's/^OK /version /p; t; s/^/version /p'
    ask status | tr '\t' ' ' | sed '/^\.$/d; s/^/status /'
    ask workers | sed -n 's/^[0-9]* [^ ]* \([^ ]*\) : \(..*\)$/worker \1 \2/p'
    ;;
esac
