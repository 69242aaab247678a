r"""The packet scripts of the differential suite, by name. Their language: dialogue.py; LONG64: 64 letters."""

from __future__ import annotations

import re

_TEXT = r"""
== foreground job, all the way
w > CAN_DO reverse
w > PRE_SLEEP
c > SUBMIT_JOB reverse|u|abc
w > GRAB_JOB
c > GET_STATUS $1
w > WORK_STATUS $1|1|2
c > GET_STATUS $1
w > WORK_DATA $1|part
w > WORK_WARNING $1|hm
w > WORK_COMPLETE $1|cba
c > GET_STATUS $1
w > GRAB_JOB

== background job, all the way
c > SUBMIT_JOB_BG f|u|data
c > GET_STATUS $1
w > CAN_DO f
w > GRAB_JOB
w > WORK_STATUS $1|50|100
c > GET_STATUS $1
w > WORK_COMPLETE $1|result
c > GET_STATUS $1

== grab with unique
c > SUBMIT_JOB_BG f|u|data
w > CAN_DO f
w > GRAB_JOB_UNIQ

== grab all gives unique where there is no reducer
c > SUBMIT_JOB_BG f|u|data
w > CAN_DO f
w > GRAB_JOB_ALL

== no job
w > GRAB_JOB
w > GRAB_JOB_UNIQ
w > GRAB_JOB_ALL
w > CAN_DO f
w > GRAB_JOB
w > GRAB_JOB_UNIQ
w > GRAB_JOB_ALL

== empty workloads
c > SUBMIT_JOB f|u|
c > SUBMIT_JOB_BG f|v|
w > CAN_DO f
w > GRAB_JOB_UNIQ
w > WORK_COMPLETE $1|
w > GRAB_JOB
w > WORK_COMPLETE $2|

== result without its separator
c > SUBMIT_JOB f|u|x
w > CAN_DO f
w > GRAB_JOB
w > WORK_COMPLETE $1

== data without its separator
c > SUBMIT_JOB f|u|x
w > CAN_DO f
w > GRAB_JOB
w > WORK_DATA $1
w > WORK_WARNING $1
w > WORK_EXCEPTION $1

== workload and result with NUL
c > SUBMIT_JOB f|u|a\x00b\x00
w > CAN_DO f
w > GRAB_JOB_UNIQ
w > WORK_DATA $1|\x00x\x00
w > WORK_COMPLETE $1|\x00\x00

== three priorities, background
c > SUBMIT_JOB_LOW_BG f|1|low
c > SUBMIT_JOB_BG f|2|normal
c > SUBMIT_JOB_HIGH_BG f|3|high
c > SUBMIT_JOB_HIGH_BG f|4|high
w > CAN_DO f
w > GRAB_JOB_UNIQ
w > GRAB_JOB_UNIQ
w > GRAB_JOB_UNIQ
w > GRAB_JOB_UNIQ
w > GRAB_JOB_UNIQ

== three priorities, foreground
a > SUBMIT_JOB_LOW f|1|low
b > SUBMIT_JOB f|2|normal
c > SUBMIT_JOB_HIGH f|3|high
w > CAN_DO f
w > GRAB_JOB_UNIQ
w > GRAB_JOB_UNIQ
w > GRAB_JOB_UNIQ
w > WORK_COMPLETE $1|1
w > WORK_COMPLETE $2|2
w > WORK_COMPLETE $3|3

== first in, first out
c > SUBMIT_JOB_BG f|1|a
c > SUBMIT_JOB_BG f|2|b
c > SUBMIT_JOB_BG f|3|c
w > CAN_DO f
w > GRAB_JOB
w > GRAB_JOB
w > GRAB_JOB

== priorities over functions
w > CAN_DO f
w > CAN_DO g
c > SUBMIT_JOB_HIGH_BG f|1|high
c > SUBMIT_JOB_BG g|2|normal
w > GRAB_JOB
w > GRAB_JOB

== functions take turns
w > CAN_DO f
w > CAN_DO g
c > SUBMIT_JOB_BG f|1|
c > SUBMIT_JOB_BG f|2|
c > SUBMIT_JOB_BG g|3|
c > SUBMIT_JOB_BG g|4|
w > GRAB_JOB_UNIQ
w > GRAB_JOB_UNIQ
w > GRAB_JOB_UNIQ
w > GRAB_JOB_UNIQ

== equal uniques join, foreground
w > CAN_DO f
a > SUBMIT_JOB f|u|1
b > SUBMIT_JOB_HIGH f|u|2
w > GRAB_JOB_UNIQ
c > SUBMIT_JOB f|u|3
w > WORK_STATUS $1|1|2
w > WORK_DATA $1|x
w > WORK_COMPLETE $1|done
w > GRAB_JOB
a > SUBMIT_JOB f|u|4

== equal uniques join, background
c > SUBMIT_JOB_BG f|u|1
c > SUBMIT_JOB_BG f|u|2
c > SUBMIT_JOB_HIGH_BG f|u|3
w > CAN_DO f
w > GRAB_JOB_UNIQ
c > SUBMIT_JOB_BG f|u|4
w > GRAB_JOB_UNIQ
w > WORK_COMPLETE $1|
c > SUBMIT_JOB_BG f|u|5

== uniques are per function
c > SUBMIT_JOB_BG f|u|1
c > SUBMIT_JOB_BG g|u|1

== empty uniques never join
c > SUBMIT_JOB_BG f||1
c > SUBMIT_JOB_BG f||1
c > SUBMIT_JOB f||1
w > CAN_DO f
w > GRAB_JOB_UNIQ
w > GRAB_JOB_UNIQ
w > GRAB_JOB_UNIQ
w > WORK_COMPLETE $3|x

== dash joins by workload
c > SUBMIT_JOB_BG f|-|same
c > SUBMIT_JOB_BG f|-|same
c > SUBMIT_JOB_BG f|-|other
c > SUBMIT_JOB_BG f|-|
c > SUBMIT_JOB_BG f|-|
w > CAN_DO f
w > GRAB_JOB_UNIQ
w > GRAB_JOB_UNIQ
w > GRAB_JOB_UNIQ
w > GRAB_JOB_UNIQ
w > GRAB_JOB_UNIQ

== dash joins a running job
w > CAN_DO f
a > SUBMIT_JOB f|-|same
w > GRAB_JOB_UNIQ
b > SUBMIT_JOB f|-|same
w > WORK_COMPLETE $1|r

== background joined by foreground gets the result
c > SUBMIT_JOB_BG f|u|x
d > SUBMIT_JOB f|u|x
w > CAN_DO f
w > GRAB_JOB
w > WORK_COMPLETE $1|r

== background joined by a client that leaves
c > SUBMIT_JOB_BG f|u|x
d > SUBMIT_JOB f|u|x
d x
w > CAN_DO f
w > GRAB_JOB_UNIQ

== foreground joined by background, client leaves
c > SUBMIT_JOB f|u|x
d > SUBMIT_JOB_BG f|u|x
c x
w > CAN_DO f
w > GRAB_JOB_UNIQ

== foreground client leaves before the job starts
c > SUBMIT_JOB f|u|x
c x
w > CAN_DO f
w > GRAB_JOB
d : status

== foreground client leaves while the job runs
c > SUBMIT_JOB f|u|x
w > CAN_DO f
w > GRAB_JOB
c x
w > WORK_STATUS $1|1|2
w > WORK_COMPLETE $1|r

== one of two foreground clients leaves
c > SUBMIT_JOB f|u|x
d > SUBMIT_JOB f|u|x
c x
w > CAN_DO f
w > GRAB_JOB
w > WORK_COMPLETE $1|r

== worker dies in the middle
c > SUBMIT_JOB f|u|x
w > CAN_DO f
w > GRAB_JOB
w > WORK_STATUS $1|1|2
w x
c > GET_STATUS $1
v > CAN_DO f
v > GRAB_JOB_UNIQ
v > WORK_COMPLETE $1|r

== background worker dies in the middle
c > SUBMIT_JOB_BG f|u|x
w > CAN_DO f
w > GRAB_JOB
w x
c : status
v > CAN_DO f
v > GRAB_JOB_UNIQ

== a sleeper is woken when a worker dies
c > SUBMIT_JOB_BG f|u|x
w > CAN_DO f
w > GRAB_JOB
v > CAN_DO f
v > PRE_SLEEP
w x
v > GRAB_JOB

== a job that comes back goes to its old place
c > SUBMIT_JOB_BG f|1|a
c > SUBMIT_JOB_BG f|2|b
c > SUBMIT_JOB_BG f|3|c
w > CAN_DO f
w > GRAB_JOB
w x
v > CAN_DO f
v > GRAB_JOB
v > GRAB_JOB
v > GRAB_JOB

== failure ends a job
c > SUBMIT_JOB f|u|x
w > CAN_DO f
w > GRAB_JOB
w > WORK_FAIL $1
c > GET_STATUS $1
w > GRAB_JOB

== failure of a background job ends it
c > SUBMIT_JOB_BG f|u|x
w > CAN_DO f
w > GRAB_JOB
w > WORK_FAIL $1
c > GET_STATUS $1
w > GRAB_JOB
c : status

== exception without the option arrives as failure
c > SUBMIT_JOB f|u|x
w > CAN_DO f
w > GRAB_JOB
w > WORK_EXCEPTION $1|boom
c > GET_STATUS $1

== exception with the option
c > OPTION_REQ exceptions
c > SUBMIT_JOB f|u|x
w > CAN_DO f
w > GRAB_JOB
w > WORK_EXCEPTION $1|boom
w > WORK_FAIL $1
c > GET_STATUS $1

== options
c > OPTION_REQ exceptions
c > OPTION_REQ EXCEPTIONS
c > OPTION_REQ exceptionsX
c > OPTION_REQ exception
c > OPTION_REQ other
c > OPTION_REQ

== reports on a job of another connection
c > SUBMIT_JOB f|u|x
w > CAN_DO f
w > GRAB_JOB
v > CAN_DO f
v > WORK_STATUS $1|1|2
v > WORK_DATA $1|x
v > WORK_WARNING $1|x
v > WORK_COMPLETE $1|x
v > WORK_FAIL $1
v > WORK_EXCEPTION $1|x
w > WORK_COMPLETE $1|mine

== reports on jobs that are no jobs
w > WORK_STATUS H:nowhere:1|1|2
w > WORK_DATA H:nowhere:1|x
w > WORK_WARNING H:nowhere:1|x
w > WORK_COMPLETE H:nowhere:1|x
w > WORK_FAIL H:nowhere:1
w > WORK_EXCEPTION H:nowhere:1|x
w > WORK_FAIL whatever
w > WORK_COMPLETE |x

== reports on a job that is over
c > SUBMIT_JOB f|u|x
w > CAN_DO f
w > GRAB_JOB
w > WORK_COMPLETE $1|r
w > WORK_COMPLETE $1|again
w > WORK_FAIL $1
w > WORK_DATA $1|x
w > WORK_STATUS $1|1|2

== failure whose handle ends with NUL
c > SUBMIT_JOB f|u|x
w > CAN_DO f
w > GRAB_JOB
w > WORK_FAIL $1\x00
c > GET_STATUS $1

== status of handles nobody gave
c > GET_STATUS H:nowhere:99
c > GET_STATUS x
c > GET_STATUS H:

== progress as the worker wrote it
c > SUBMIT_JOB f|u|x
w > CAN_DO f
w > GRAB_JOB
w > WORK_STATUS $1|007|100
c > GET_STATUS $1

== progress that is no number
c > SUBMIT_JOB f|u|x
w > CAN_DO f
w > GRAB_JOB
w > WORK_STATUS $1|half|whole
c > GET_STATUS $1

== progress of a job survives its worker
c > SUBMIT_JOB_BG f|u|x
w > CAN_DO f
w > GRAB_JOB
w > WORK_STATUS $1|3|4
w x
c > GET_STATUS $1

== status by unique
c > GET_STATUS_UNIQUE u
c > SUBMIT_JOB_BG f|u|x
c > GET_STATUS_UNIQUE u
w > CAN_DO f
w > GRAB_JOB
w > WORK_STATUS $1|1|2
c > GET_STATUS_UNIQUE u
d > SUBMIT_JOB f|u|x
c > GET_STATUS_UNIQUE u
w > WORK_COMPLETE $1|r
c > GET_STATUS_UNIQUE u

== status by unique counts clients
a > SUBMIT_JOB f|u|x
b > SUBMIT_JOB f|u|x
c > GET_STATUS_UNIQUE u

== status by unique of a dash
c > SUBMIT_JOB_BG g|-|x
c > SUBMIT_JOB_BG g||x
c > GET_STATUS_UNIQUE -
c > GET_STATUS_UNIQUE

== status by unique of two functions
c > SUBMIT_JOB_BG f|u|x
c > SUBMIT_JOB_BG g|u|x
w > CAN_DO f
c > GET_STATUS_UNIQUE u
w > GRAB_JOB
w > WORK_COMPLETE $1|
c > GET_STATUS_UNIQUE u

== status by unique asks no function
c > SUBMIT_JOB_BG g|u|x
c > GET_STATUS_UNIQUE u
c > GET_STATUS_UNIQUE
c > GET_STATUS_UNIQUE -

== sleeping worker is woken once
w > CAN_DO f
w > PRE_SLEEP
c > SUBMIT_JOB_BG f|1|
c > SUBMIT_JOB_BG f|2|
w > GRAB_JOB
w > PRE_SLEEP
w > GRAB_JOB
w > GRAB_JOB
w > PRE_SLEEP
c > SUBMIT_JOB_BG f|3|

== sleeping with a job to do
c > SUBMIT_JOB_BG f|1|
w > CAN_DO f
w > PRE_SLEEP
w > PRE_SLEEP

== sleepers of other functions sleep on
w > CAN_DO g
w > PRE_SLEEP
c > SUBMIT_JOB_BG f|1|

== two sleepers, one job
w > CAN_DO f
w > PRE_SLEEP
v > CAN_DO f
v > PRE_SLEEP
c > SUBMIT_JOB_BG f|1|

== worker announces its function while asleep
c > SUBMIT_JOB_BG f|1|
w > PRE_SLEEP
w > CAN_DO f
w > GRAB_JOB

== worker takes a function back
w > CAN_DO f
w > CANT_DO f
c > SUBMIT_JOB_BG f|1|
w > GRAB_JOB
w > CANT_DO g
c : status
w > CAN_DO f
w > GRAB_JOB

== worker resets its abilities
w > CAN_DO f
w > CAN_DO g
w > RESET_ABILITIES
c > SUBMIT_JOB_BG f|1|
w > GRAB_JOB
c : status

== worker takes a function back with its job in its hands
w > CAN_DO f
c > SUBMIT_JOB f|1|x
w > GRAB_JOB
w > CANT_DO f
c : status
w > WORK_COMPLETE $1|r

== worker resets with a job in its hands
w > CAN_DO f
c > SUBMIT_JOB f|1|x
w > GRAB_JOB
w > RESET_ABILITIES
w > WORK_COMPLETE $1|r

== a function announced twice counts once
w > CAN_DO f
w > CAN_DO f
c : status

== time-out announced, job in time
w > CAN_DO_TIMEOUT f|30
c > SUBMIT_JOB f|u|x
w > GRAB_JOB
w > WORK_COMPLETE $1|r
c : status

== time-out of a foreground job
w > CAN_DO_TIMEOUT f|1
c > SUBMIT_JOB f|u|x
w > GRAB_JOB
w t 2
c > GET_STATUS $1
w > WORK_COMPLETE $1|late
c : status

== time-out of a background job
w > CAN_DO_TIMEOUT f|1
c > SUBMIT_JOB_BG f|u|x
w > GRAB_JOB
w t 2
c > GET_STATUS $1
c : status
v > CAN_DO f
v > GRAB_JOB
w > WORK_COMPLETE $1|late

== time-out of zero is none
w > CAN_DO_TIMEOUT f|0
c > SUBMIT_JOB f|u|x
w > GRAB_JOB
w > WORK_COMPLETE $1|r

== time-out without a number
w ! CAN_DO_TIMEOUT f
c : status

== a packet workers may not send
w > ALL_YOURS

== packets only the server sends
c > NOOP
c > JOB_CREATED H:x:1
c > NO_JOB
c > JOB_ASSIGN H:x:1|f|x
c > ECHO_RES x
c > ERROR a|b
c > STATUS_RES a|b|c|d|e
c > OPTION_RES exceptions
c > JOB_ASSIGN_UNIQ a|b|c|d
c > JOB_ASSIGN_ALL a|b|c|d|e
c > STATUS_RES_UNIQUE a|b|c|d|e|f

== echo
c > ECHO_REQ
c > ECHO_REQ hello
c > ECHO_REQ \x00\n\x00

== a job for the past
c > SUBMIT_JOB_EPOCH f|u|1|x
w > CAN_DO f
w > GRAB_JOB_UNIQ

== a job for a time that is no number
c > SUBMIT_JOB_EPOCH f|u|soon|x
w > CAN_DO f
w > GRAB_JOB_UNIQ

== a job for the future
w > CAN_DO f
c > SUBMIT_JOB_EPOCH f|u|@4|x
c : status
c > GET_STATUS $1
w > GRAB_JOB
w > PRE_SLEEP
w t 5
w > GRAB_JOB_UNIQ
w > WORK_COMPLETE $1|
c > GET_STATUS $1

== a job for the future is joined
c > SUBMIT_JOB_EPOCH f|u|@1000|x
c > SUBMIT_JOB_EPOCH f|u|@2000|y
c > SUBMIT_JOB_BG f|u|z
w > CAN_DO f
w > GRAB_JOB

== a job with a schedule
c > SUBMIT_JOB_SCHED f|u|0|0|1|1|0|x

== reduce job, foreground
w > CAN_DO f
c > SUBMIT_REDUCE_JOB f|u|r|0|x
w > GRAB_JOB_ALL
w > WORK_COMPLETE $1|r

== reduce job, background
w > CAN_DO f
c > SUBMIT_REDUCE_JOB_BACKGROUND f|u|r|0|x
w > GRAB_JOB_ALL
w > WORK_COMPLETE $1|r

== reduce job, grabbed the other ways
w > CAN_DO f
c > SUBMIT_REDUCE_JOB f|1|r|0|x
c > SUBMIT_REDUCE_JOB_BACKGROUND f|2|r|0|y
w > GRAB_JOB
w > GRAB_JOB_UNIQ

== reduce job without reducer
w > CAN_DO f
c > SUBMIT_REDUCE_JOB f|1||0|x
w > GRAB_JOB_ALL

== submit with too few arguments
c > SUBMIT_JOB f

== submit with two arguments
c > SUBMIT_JOB_BG f|u

== submit of nothing
c > SUBMIT_JOB

== submit with an empty function
c > SUBMIT_JOB_BG |u|x
c : status

== announcing an empty function
w > CAN_DO
c : status

== status with too few arguments
w > CAN_DO f
c > SUBMIT_JOB f|u|x
w > GRAB_JOB
w ! WORK_STATUS $1|1

== epoch with too few arguments
c > SUBMIT_JOB_EPOCH f|u|x

== reduce with too few arguments
c > SUBMIT_REDUCE_JOB f|u|r|x

== a unique of 63 bytes
c > SUBMIT_JOB_BG f|123456789012345678901234567890123456789012345678901234567890123|x
w > CAN_DO f
w > GRAB_JOB_UNIQ

== a unique of 64 bytes
c > SUBMIT_JOB_BG f|1234567890123456789012345678901234567890123456789012345678901234|x
w > CAN_DO f
w > GRAB_JOB_UNIQ

== a unique of 65 bytes
c > SUBMIT_JOB_BG f|12345678901234567890123456789012345678901234567890123456789012345|x
c > ECHO_REQ still here

== a binary unique
c > SUBMIT_JOB_BG f|\xff\x01\n \xfe|x
w > CAN_DO f
w > GRAB_JOB_UNIQ
c > GET_STATUS_UNIQUE \xff\x01\n \xfe

== a long function name
c > SUBMIT_JOB_BG LONG512|u|x
w > CAN_DO LONG512
w > GRAB_JOB

== a function name beyond the limit
c > SUBMIT_JOB_BG LONG513|u|x
c > ECHO_REQ still here

== a long handle
c > GET_STATUS LONG63

== a long report handle
w > WORK_COMPLETE LONG100|x
w > WORK_FAIL LONG100
w > WORK_STATUS LONG100|1|2

== client id
w > SET_CLIENT_ID me and you
w > CAN_DO f
c : workers
w > SET_CLIENT_ID
c : workers

== a long client id
w > SET_CLIENT_ID LONG127
c : workers

== a client id beyond the limit
w > SET_CLIENT_ID LONG200
c : workers

== workers and their functions
w > CAN_DO f
w > CAN_DO g
w > CAN_DO h
v > CAN_DO f
c : workers
w > CANT_DO g
c : workers

== status
c : status
c > SUBMIT_JOB_BG f|1|
c > SUBMIT_JOB_HIGH_BG f|2|
c > SUBMIT_JOB_LOW_BG g|3|
w > CAN_DO f
w > CAN_DO h
c : status
w > GRAB_JOB
c : status
w > WORK_COMPLETE $2|
c : status
c : STATUS extra

== priority status
c > SUBMIT_JOB_BG f|1|
c > SUBMIT_JOB_HIGH_BG f|2|
c > SUBMIT_JOB_LOW_BG f|3|
c > SUBMIT_JOB_LOW_BG f|4|
w > CAN_DO f
c : prioritystatus
w > GRAB_JOB
c : prioritystatus
c : PriorityStatus
c : priority-status

== text commands with CRLF
c ~ verbose\r\n
c ~ status\r\n
c ~ what\r\n

== verbose and pid
c : verbose
c : getpid
c : VERBOSE

== unknown text
c : what
c : what is this
c : shutdown
c : shutdown graceful
c : x

== an empty line
c ~ \n
c ~ \r\n

== blanks before and between
c :  status
c : show    jobs
c : status\x20

== too many words
c : one two three four five six

== five words
c : one two three four five

== show
c : show
c : show x
c : show jobs
c : show unique
c : show unique jobs
c : show unique x
c : SHOW JOBS

== show jobs
c > SUBMIT_JOB_BG f|u1|x
c > SUBMIT_JOB f|u2|y
c : show jobs
c : show unique jobs
w > CAN_DO f
w > GRAB_JOB
c : show jobs
c : show unique jobs
w x
c : show jobs

== show jobs without uniques
c > SUBMIT_JOB_BG f||x
c > SUBMIT_JOB_BG f|-|y
c : show jobs
c : show unique jobs

== cancel
c : cancel
c : cancel job
c : cancel job H:nowhere:1
c : cancel x

== cancel a queued background job
c > SUBMIT_JOB_BG f|u|x
c : cancel job $1
c > GET_STATUS $1
w > CAN_DO f
w > GRAB_JOB
c : cancel job $1

== cancel a queued foreground job
c > SUBMIT_JOB f|u|x
d : cancel job $1
d : status
w > CAN_DO f
w > GRAB_JOB
d : status

== cancel a running job
c > SUBMIT_JOB f|u|x
w > CAN_DO f
w > GRAB_JOB
d : cancel job $1
w > WORK_COMPLETE $1|r
d : status

== create function
c ~ create function f\r\n
c : status
c ~ create function f\r\n
c : create
c : create x
c : create x y

== create function with a bare line feed
c : create function foo
c : status

== create function without a name
c ~ create function\r\n
c : status

== drop function
c ~ create function f\r\n
c ~ drop function f\r\n
c : status
c : drop function f
c : drop
c : drop x
c : drop function

== drop function with a worker
w > CAN_DO f
c : drop function f
c : status
w x
c : drop function f
c : status

== drop function with a job
c > SUBMIT_JOB_BG f|u|x
c : drop function f
w > CAN_DO f
w > GRAB_JOB_UNIQ

== a dropped function's worker goes on
w > CAN_DO f
c ~ create function g\r\n
c ~ drop function g\r\n
c ~ drop function g x\r\n
c : drop x y
c : status

== drop function with a running job
c > SUBMIT_JOB_BG f|u|x
w > CAN_DO f
w > GRAB_JOB
c : drop function f
w > WORK_COMPLETE $1|

== maxqueue
c ~ create function f\r\n
c : maxqueue f 2
c > SUBMIT_JOB_BG f|1|x
c > SUBMIT_JOB_BG f|2|x
c > SUBMIT_JOB_BG f|3|x
c > SUBMIT_JOB_HIGH_BG f|4|x
c > SUBMIT_JOB f|5|x
c > SUBMIT_JOB_BG g|6|x
c : maxqueue f
c > SUBMIT_JOB_BG f|7|x

== maxqueue of each priority
c ~ create function f\r\n
c : maxqueue f 1 2 0
c > SUBMIT_JOB_HIGH_BG f|1|x
c > SUBMIT_JOB_HIGH_BG f|2|x
c > SUBMIT_JOB_BG f|3|x
c > SUBMIT_JOB_BG f|4|x
c > SUBMIT_JOB_BG f|5|x
c > SUBMIT_JOB_LOW_BG f|6|x
c > SUBMIT_JOB_LOW_BG f|7|x

== maxqueue counts what is queued
c ~ create function f\r\n
c : maxqueue f 1
c > SUBMIT_JOB_BG f|1|x
w > CAN_DO f
w > GRAB_JOB
c > SUBMIT_JOB_BG f|2|x
c > SUBMIT_JOB_BG f|3|x

== maxqueue lets equal uniques join
c ~ create function f\r\n
c : maxqueue f 1
c > SUBMIT_JOB_BG f|1|x
c > SUBMIT_JOB_BG f|1|x

== maxqueue of a function not known yet
c : maxqueue f 1
c > SUBMIT_JOB_BG f|1|x
c > SUBMIT_JOB_BG f|2|x

== maxqueue with odd arguments
c : maxqueue
c ~ create function f\r\n
c : maxqueue f x
c : maxqueue f -1
c : maxqueue f 1 2
c > SUBMIT_JOB_BG f|1|x
c > SUBMIT_JOB_BG f|2|x
c > SUBMIT_JOB_BG f|3|x
c > SUBMIT_JOB_HIGH_BG f|4|x
c > SUBMIT_JOB_HIGH_BG f|5|x
c : maxqueue f 0
c > SUBMIT_JOB_BG f|6|x
c : maxqueue f 1x
c > SUBMIT_JOB_LOW_BG f|7|x
c > SUBMIT_JOB_LOW_BG f|8|x
c : maxqueue f 1 2 3 4

== packets and text on one connection
c ~ status\n\0REQ\0\0\0\x10\0\0\0\x02hiverbose\n

== several packets in one segment
c ~ \0REQ\0\0\0\x10\0\0\0\x01a\0REQ\0\0\0\x10\0\0\0\x01b\0REQ\0\0\0\x12\0\0\0\x05f\0u\0x\0REQ\0\0\0\x10\0\0\0\x01c

== a packet in halves
c _ \0RE
c _ Q\0\0\0\x10\0\0
c _ \0\x05he
c ~ llo

== half a packet, then gone
c _ \0REQ\0\0\0\x12\0\0\0\xfff\0u\0x
c x
d : status

== the magic of the other direction
c ~ \0RES\0\0\0\x10\0\0\0\x02hi

== no magic
c ~ \0FOO\0\0\0\x10\0\0\0\x02hi

== packet type 0
c ~ \0REQ\0\0\0\0\0\0\0\0

== packet type 5
c ~ \0REQ\0\0\0\x05\0\0\0\0

== packet type 43
c ~ \0REQ\0\0\0\x2b\0\0\0\0

== packet type 2 to the 32
c ~ \0REQ\xff\xff\xff\xff\0\0\0\0

== bodies where none belong
w > CAN_DO f
c > SUBMIT_JOB_BG f|u|x
w > PRE_SLEEP extra
w > GRAB_JOB extra

== a client that works, too
c > CAN_DO f
c > SUBMIT_JOB f|u|x
c > GRAB_JOB
c > WORK_DATA $1|d
c > WORK_COMPLETE $1|r

== several jobs in one hand
w > CAN_DO f
c > SUBMIT_JOB f|1|a
c > SUBMIT_JOB f|2|b
w > GRAB_JOB
w > GRAB_JOB
w > WORK_COMPLETE $2|b
w > WORK_COMPLETE $1|a

== function names and uniques with odd bytes
c > SUBMIT_JOB_BG a-b/c d|x-y|1
c > SUBMIT_JOB_BG \xc3\xa9|\xc3\xa9|2
w > CAN_DO a-b/c d
w > GRAB_JOB_UNIQ
w > CAN_DO \xc3\xa9
w > GRAB_JOB_UNIQ
c : status
"""


def _parse(text: str) -> dict[str, str]:
    scripts = {}
    for part in text.split("\n== ")[1:]:
        name, _, script = part.partition("\n")
        assert name not in scripts, name
        scripts[name] = re.sub(r"LONG(\d+)", lambda found: "l" * int(found[1]), script)
    return scripts


SCRIPTS = _parse(_TEXT)
