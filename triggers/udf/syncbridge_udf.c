/* Gearman from SQL: loadable functions for MySQL 8.0+ and MariaDB 10.6+.
 *
 *   gman_do(function, workload [, unique])             a job's result; also gman_do_high, gman_do_low
 *   gman_do_background(function, workload [, unique])  a job's handle; also gman_do_high_background, gman_do_low_...
 *   gman_sum(function, value)                          aggregate: one job a row, all at once, the sum of their results
 *   gman_servers_set('host:port,...' [, function])     where jobs go; echoes the list
 *   gman_option_set(name, value)                       time-outs in milliseconds, see `options`
 *   gman_last_error()                                  why this thread's last call returned NULL
 *   gman_stats()                                       totals as JSON
 *   gman_json_object, _array, _values, _members        JSON for servers without JSON_OBJECT
 *
 * Names and meaning follow gearman-mysql-udf. A call may cost its statement a time-out, never more: a connection is
 * used again and again, a server that failed is left alone for a second (the circuit breaker) while the next server of
 * the list takes over, and whatever goes wrong is NULL, never an error.
 *
 * Sections: the server's calling convention, text, sockets, packets, pools, calls, then the functions themselves.
 * One mutex guards pools, options and totals; it is never held while waiting for the network.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* -- the server's calling convention ---------------------------------------------------------------------------------
 * Declared here so that no header of a server is needed: this layout has not changed since MySQL 5.0. */

enum Item_result { STRING_RESULT = 0, REAL_RESULT, INT_RESULT, ROW_RESULT, DECIMAL_RESULT };

typedef struct {
  unsigned int arg_count;
  enum Item_result *arg_type;
  char **args;
  unsigned long *lengths;
  char *maybe_null;
  char **attributes;
  unsigned long *attribute_lengths;
  void *extension;
} UDF_ARGS;

typedef struct {
  char maybe_null;
  unsigned int decimals;
  unsigned long max_length;
  char *ptr;
  char const_item;
  void *extension;
} UDF_INIT;

#define PUBLIC __attribute__((visibility("default")))
/* MYSQL_ERRMSG_SIZE of the server. */
#define MESSAGE_SIZE 512

/* Rises with every change that servers should be given; gman_stats() tells it, `syncbridge udf install` compares it. */
#define LIBRARY_VERSION 5

/* -- limits ---------------------------------------------------------------------------------------------------------- */

#define MAX_FUNCTION 512
#define MAX_UNIQUE 64
#define MAX_ENTRIES 16  /* of a list */
#define MAX_ADDRESSES 4 /* of a name */
#define MAX_SERVERS (MAX_ENTRIES * MAX_ADDRESSES)
#ifndef MAX_IDLE
#define MAX_IDLE 64 /* connections kept per server; further ones are closed after use. 0: one for each call */
#endif
#define MAX_RESULT (16u << 20)
#define MAX_REPLY (64u << 20)
#define LARGE (1u << 20)
#define REPLY_MS_PER_MIB 100 /* 10 MiB a second: slow for a network, and for a server that writes to a disk */
#define DEFAULT_PORT "4730"

enum { SUBMIT_JOB = 7, JOB_CREATED = 8, WORK_STATUS = 12, WORK_COMPLETE = 13, WORK_FAIL = 14, SUBMIT_JOB_BG = 18, ERROR = 19,
       SUBMIT_JOB_HIGH = 21, WORK_EXCEPTION = 25, WORK_DATA = 28, WORK_WARNING = 29, SUBMIT_JOB_HIGH_BG = 32,
       SUBMIT_JOB_LOW = 33, SUBMIT_JOB_LOW_BG = 34 };

enum { CONNECT_TIMEOUT, REPLY_TIMEOUT, RESULT_TIMEOUT, BREAKER, OPTIONS };
static struct { const char *name; long value; } options[OPTIONS] = {
  {"connect_timeout", 200},   /* until a server accepts the connection */
  {"reply_timeout", 200},     /* until it answers a submit; a large one has more, see reply_deadline() */
  {"result_timeout", 30000},  /* until a worker's result arrives (gman_do, gman_sum) */
  {"breaker", 1000},          /* how long a server that failed is left alone */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { unsigned long long jobs, failures, connects, reuses, timeouts, skipped; } totals;
static __thread char last_error[MESSAGE_SIZE];

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(last_error, sizeof last_error, format, arguments);
  va_end(arguments);
}

/* Totals and options are looked at in every call: without the lock, since no two of them need to agree. */
static void count(unsigned long long *total) { __atomic_add_fetch(total, 1, __ATOMIC_RELAXED); }
static unsigned long long counted(unsigned long long *total) { return __atomic_load_n(total, __ATOMIC_RELAXED); }
static long option(int which) { return __atomic_load_n(&options[which].value, __ATOMIC_RELAXED); }

static int64_t now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* Until when a server has to answer `size` bytes: a large job must first arrive there, and be stored. */
static int64_t reply_deadline(size_t size) {
  return now_ms() + option(REPLY_TIMEOUT) + (int64_t)(size / LARGE) * REPLY_MS_PER_MIB;
}

/* -- text: a buffer that grows --------------------------------------------------------------------------------------- */

typedef struct { char *data; size_t size, capacity; bool broken; } text;

static bool reserve(text *t, size_t more) {
  if (t->broken) return false;
  if (t->size + more <= t->capacity) return true;
  size_t capacity = t->capacity ? t->capacity : 256;
  while (capacity < t->size + more) capacity *= 2;
  char *data = realloc(t->data, capacity);
  if (!data) {
    t->broken = true;
    return false;
  }
  t->data = data;
  t->capacity = capacity;
  return true;
}

static void add(text *t, const void *data, size_t size) {
  if (size && reserve(t, size)) {
    memcpy(t->data + t->size, data, size);
    t->size += size;
  }
}

static void add_string(text *t, const char *string) { add(t, string, strlen(string)); }

/* What a function keeps between rows, in UDF_INIT.ptr; a small result leaves a large buffer behind only once. */
static text *state_of(UDF_INIT *init) { return (text *)init->ptr; }

static char new_state(UDF_INIT *init, char *message) {
  init->ptr = calloc(1, sizeof(text));
  init->maybe_null = 1;
  init->const_item = 0;
  init->max_length = MAX_RESULT;
  if (init->ptr) return 0;
  snprintf(message, MESSAGE_SIZE, "out of memory");
  return 1;
}

static void free_state(UDF_INIT *init) {
  if (init->ptr) free(state_of(init)->data);
  free(init->ptr);
  init->ptr = NULL;
}

static char *give(text *t, unsigned long *length, char *is_null) {
  if (t->broken) {
    fail("out of memory");
    *is_null = 1;
    return NULL;
  }
  *length = t->size;
  return t->data ? t->data : "";
}

/* -- sockets: everything waits with poll() and a deadline -------------------------------------------------------------- */

/* REFUSED: the next server may take the job. FAILED: it was taken, and nothing good came of it. */
enum outcome { DONE, TIMED_OUT, CLOSED, REFUSED, FAILED };

static bool wait_for(int fd, short events, int64_t deadline) {
  for (;;) {
    int64_t left = deadline - now_ms();
    struct pollfd entry = {.fd = fd, .events = events};
    int ready = poll(&entry, 1, left > 0 ? (int)left : 0);
    if (ready > 0) return true;
    if (ready == 0 && left <= 0) return false;
    if (ready < 0 && errno != EINTR) return false;
  }
}

static enum outcome send_all(int fd, const char *data, size_t size, int64_t deadline) {
  while (size) {
    ssize_t sent = send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      data += sent;
      size -= (size_t)sent;
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (!wait_for(fd, POLLOUT, deadline)) return TIMED_OUT;
    } else if (errno != EINTR) {
      return CLOSED;
    }
  }
  return DONE;
}

/* What a connection brings: a small answer comes in one piece. */
typedef struct { int fd; size_t start, end; char data[2048]; } input;

static void begin(input *in, int fd) {
  in->fd = fd;
  in->start = in->end = 0;
}

static bool buffered(const input *in) { return in->start < in->end; }

static enum outcome receive_all(input *in, char *data, size_t size, int64_t deadline) {
  while (size) {
    if (buffered(in)) {
      size_t part = in->end - in->start < size ? in->end - in->start : size;
      memcpy(data, in->data + in->start, part);
      in->start += part;
      data += part;
      size -= part;
      continue;
    }
    bool direct = size >= sizeof in->data;
    ssize_t got = recv(in->fd, direct ? data : in->data, direct ? size : sizeof in->data, MSG_DONTWAIT);
    if (got > 0 && direct) {
      data += got;
      size -= (size_t)got;
    } else if (got > 0) {
      in->start = 0;
      in->end = (size_t)got;
    } else if (got == 0) {
      return CLOSED;
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (!wait_for(in->fd, POLLIN, deadline)) return TIMED_OUT;
    } else if (errno != EINTR) {
      return CLOSED;
    }
  }
  return DONE;
}

/* -- packets (Gearman PROTOCOL: \0REQ or \0RES, type, size, arguments separated by NUL) -------------------------------- */

static void put32(char *to, uint32_t value) {
  value = htonl(value);
  memcpy(to, &value, 4);
}

static uint32_t get32(const char *from) {
  uint32_t value;
  memcpy(&value, from, 4);
  return ntohl(value);
}

typedef struct { const char *data; size_t size; } piece;

static void add_submit(text *t, uint32_t kind, piece function, piece unique, piece workload) {
  char header[12] = "\0REQ";
  put32(header + 4, kind);
  put32(header + 8, (uint32_t)(function.size + unique.size + workload.size + 2));
  add(t, header, sizeof header);
  add(t, function.data, function.size);
  add(t, "", 1);
  add(t, unique.data, unique.size);
  add(t, "", 1);
  add(t, workload.data, workload.size);
}

/* The next packet into `body`; its kind into `kind`. Anything that is no response, or too large, counts as CLOSED. */
static enum outcome receive_packet(input *in, uint32_t *kind, text *body, int64_t deadline) {
  char header[12];
  enum outcome outcome = receive_all(in, header, sizeof header, deadline);
  if (outcome != DONE) return outcome;
  uint32_t size = get32(header + 8);
  if (memcmp(header, "\0RES", 4) != 0 || size > MAX_REPLY) return CLOSED;
  *kind = get32(header + 4);
  body->size = 0;
  if (!reserve(body, size)) return CLOSED;
  outcome = receive_all(in, body->data, size, deadline);
  if (outcome == DONE) body->size = size;
  return outcome;
}

/* What follows the first NUL: everything behind the handle. */
static piece behind_handle(const text *body) {
  const char *nul = body->size ? memchr(body->data, 0, body->size) : NULL;
  if (!nul) return (piece){"", 0};
  return (piece){nul + 1, body->size - (size_t)(nul + 1 - body->data)};
}

/* -- pools: the servers of one list, and their idle connections ------------------------------------------------------- */

/* One address of one entry. */
typedef struct {
  char name[128]; /* the entry, as it was given */
  char shown[INET6_ADDRSTRLEN]; /* the address; "" for a path */
  struct sockaddr_storage address;
  socklen_t address_size;
  int64_t retry_at; /* the breaker is open until then; 0: closed */
  int idle[MAX_IDLE];
  int idle_count;
} server;

typedef struct pool {
  int references; /* `pools` holds one, every call under way another */
  char function[MAX_FUNCTION + 1]; /* "": for every function without a list of its own */
  int count;
  server servers[MAX_SERVERS];
  struct pool *next;
} pool;

static pool *pools;

static void release(pool *p) {
  pthread_mutex_lock(&lock);
  bool last = --p->references == 0;
  pthread_mutex_unlock(&lock);
  if (!last) return;
  for (int s = 0; s < p->count; s++)
    for (int i = 0; i < p->servers[s].idle_count; i++) close(p->servers[s].idle[i]);
  free(p);
}

static pool *pool_for(piece function) {
  pthread_mutex_lock(&lock);
  pool *found = NULL;
  for (pool *p = pools; p; p = p->next) {
    bool own = strlen(p->function) == function.size && !memcmp(p->function, function.data, function.size);
    if (own || (!*p->function && !found)) found = p;
    if (own) break;
  }
  if (found) found->references++;
  pthread_mutex_unlock(&lock);
  return found;
}

static bool same_address(const server *a, const server *b) {
  return a->address_size == b->address_size && !memcmp(&a->address, &b->address, a->address_size);
}

/* The server of `p` with the address of `wanted`. */
static const server *listed(const pool *p, const server *wanted) {
  for (int s = 0; s < p->count; s++)
    if (same_address(&p->servers[s], wanted)) return &p->servers[s];
  return NULL;
}

/* The same names in the same order. A name's own addresses may change places: many name servers turn them round. */
static bool same_servers(const pool *a, const pool *b) {
  bool same = a && b && a->count == b->count;
  for (int s = 0; same && s < a->count; s++) {
    const server *other = listed(b, &a->servers[s]);
    same = other && !strcmp(a->servers[s].name, b->servers[s].name) && !strcmp(a->servers[s].name, other->name);
  }
  return same;
}

/* Put `fresh` (NULL: nothing) in the place of the function's pool. A list that is in force already stays, with its
 * connections and breakers: it may be set again and again. */
static void replace_pool(const char *function, pool *fresh) {
  pool *old = NULL;
  pthread_mutex_lock(&lock);
  for (pool **at = &pools; *at; at = &(*at)->next)
    if (!strcmp((*at)->function, function)) {
      if (same_servers(*at, fresh)) {
        pthread_mutex_unlock(&lock);
        release(fresh);
        return;
      }
      old = *at;
      *at = old->next;
      break;
    }
  if (fresh) {
    fresh->next = pools;
    pools = fresh;
  }
  pthread_mutex_unlock(&lock);
  if (old) release(old);
}

/* Entries are read by the following; each gives what is wrong with its entry, NULL: nothing. */

/* An address that the list has already is the same server: it is not tried twice. */
static void add_server(pool *p, const char *entry, const void *address, socklen_t size) {
  server *s = &p->servers[p->count];
  memset(s, 0, sizeof *s);
  snprintf(s->name, sizeof s->name, "%s", entry);
  memcpy(&s->address, address, size);
  s->address_size = size;
  if (s->address.ss_family != AF_UNIX)
    getnameinfo(address, size, s->shown, sizeof s->shown, NULL, 0, NI_NUMERICHOST);
  if (!listed(p, s)) p->count++;
}

static const char *add_path(pool *p, const char *entry) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  const char *path = entry + strlen("unix:");
  if (!*path) return "no path";
  if (strlen(path) >= sizeof address.sun_path) return "the path is too long";
  strcpy(address.sun_path, path);
  add_server(p, entry, &address, sizeof address);
  return NULL;
}

/* A number that is no port, which getaddrinfo would cut to 16 bits. Names are for getaddrinfo to judge. */
static bool bad_port(const char *port) {
  char *end;
  long number = strtol(port, &end, 10);
  return !*end && (number < 1 || number > 65535);
}

/* All addresses of a name, since a server may listen on one of them only: localhost is ::1 and 127.0.0.1. Names are
 * looked up here, once, never inside a call. */
static const char *add_addresses(pool *p, const char *entry, const char *name, const char *port) {
  if (!*name) return "no host";
  if (bad_port(port)) return "a port is 1 to 65535";
  struct addrinfo wanted = {.ai_socktype = SOCK_STREAM}, *found;
  int failure = getaddrinfo(name, port, &wanted, &found);
  if (failure) return failure == EAI_SERVICE ? "no such port" : "no such host";
  int before = p->count;
  for (struct addrinfo *one = found; one && p->count - before < MAX_ADDRESSES; one = one->ai_next)
    if (one->ai_addrlen <= sizeof p->servers[0].address) add_server(p, entry, one->ai_addr, one->ai_addrlen);
  freeaddrinfo(found);
  return NULL;
}

/* host, host:port, [v6]:port, v6, unix:/path. */
static const char *add_entry(pool *p, const char *entry) {
  char host[sizeof p->servers[0].name];
  if (strlen(entry) >= sizeof host) return "too long";
  if (!strncmp(entry, "unix:", 5)) return add_path(p, entry);
  strcpy(host, entry);
  char *name = host, *port = NULL;
  char *end = *host == '[' ? strchr(host, ']') : NULL;
  if (end) {
    if (end[1] && end[1] != ':') return "not [address]:port";
    *end = 0;
    name++;
    port = end[1] ? end + 2 : NULL;
  } else if ((port = strrchr(host, ':')) && strchr(host, ':') == port) {
    *port++ = 0;
  } else {
    port = NULL;
  }
  return add_addresses(p, entry, name, port && *port ? port : DEFAULT_PORT);
}

/* The pool of a list; NULL: something is wrong with it, see gman_last_error(). */
static pool *new_pool(const char *list, const char *function) {
  pool *p = calloc(1, sizeof *p);
  char *entries = strdup(list), *rest = entries;
  const char *wrong = NULL;
  int count = 0;
  if (p && entries) {
    p->references = 1;
    strcpy(p->function, function);
    for (char *entry; !wrong && (entry = strsep(&rest, ", "));) {
      if (!*entry) continue;
      wrong = count++ == MAX_ENTRIES ? "one too many" : add_entry(p, entry);
      if (wrong) fail("server %.200s: %s", entry, wrong);
    }
    if (!count) fail("no server in the list: it is to be such as 'host:4730,other:4730'");
  } else {
    fail("out of memory");
  }
  free(entries);
  if (p && count && !wrong) return p;
  free(p);
  return NULL;
}

/* -- connections -------------------------------------------------------------------------------------------------------- */

static int open_connection(server *s) {
  int fd = socket(s->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) {
    fail("%s: %s", s->name, strerror(errno));
    return -1;
  }
  int on = 1, failure = 0;
  socklen_t size = sizeof failure;
  if (s->address.ss_family != AF_UNIX) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  if (connect(fd, (struct sockaddr *)&s->address, s->address_size) < 0) {
    failure = errno;
    if (failure == EINPROGRESS && wait_for(fd, POLLOUT, now_ms() + option(CONNECT_TIMEOUT)))
      getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size);
    if (failure) {
      fail("%s: %s", s->name, failure == EINPROGRESS ? "no connection in time" : strerror(failure));
      close(fd);
      return -1;
    }
  }
  count(&totals.connects);
  return fd;
}

/* Neither closed by the server, nor saying something that nobody asked for. */
static bool still_open(int fd) {
  char byte;
  return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

/* A connection, an idle one where there is one; -1: the server cannot be used now. `reused` is cleared where it came to
 * opening a new one. */
static int check_out(server *s, bool *reused) {
  int64_t now = now_ms();
  pthread_mutex_lock(&lock);
  if (s->retry_at > now) {
    pthread_mutex_unlock(&lock);
    count(&totals.skipped);
    fail("%s failed a moment ago and is left alone", s->name);
    return -1;
  }
  if (s->retry_at) s->retry_at = now + option(BREAKER); /* this call tries it; meanwhile others do not */
  while (s->idle_count) {
    int fd = s->idle[--s->idle_count];
    pthread_mutex_unlock(&lock);
    if (still_open(fd)) {
      count(&totals.reuses);
      *reused = true;
      return fd;
    }
    close(fd); /* dead, or out of step */
    pthread_mutex_lock(&lock);
  }
  pthread_mutex_unlock(&lock);
  *reused = false;
  return open_connection(s);
}

/* The server answered, be it with a refusal: close its breaker. */
static void is_well(server *s) {
  pthread_mutex_lock(&lock);
  s->retry_at = 0;
  pthread_mutex_unlock(&lock);
}

static void check_in(server *s, int fd) {
  pthread_mutex_lock(&lock);
  s->retry_at = 0;
  bool kept = s->idle_count < MAX_IDLE;
  if (kept) s->idle[s->idle_count++] = fd;
  pthread_mutex_unlock(&lock);
  if (!kept) close(fd);
}

/* The server failed: open its breaker and let go of its connections. */
static void give_up(server *s, enum outcome outcome) {
  int idle[MAX_IDLE], idle_count;
  if (outcome == TIMED_OUT) count(&totals.timeouts);
  pthread_mutex_lock(&lock);
  s->retry_at = now_ms() + option(BREAKER);
  idle_count = s->idle_count;
  memcpy(idle, s->idle, sizeof idle);
  s->idle_count = 0;
  pthread_mutex_unlock(&lock);
  while (idle_count) close(idle[--idle_count]);
}

/* -- calls ---------------------------------------------------------------------------------------------------------------- */

/* Why the server refused, from an ERROR packet: code NUL text. */
static enum outcome refused(const server *s, const text *body) {
  piece why = behind_handle(body);
  fail("%s refused the job: %.*s", s->name, (int)(why.size < 200 ? why.size : 200), why.data);
  return REFUSED;
}

/* Wait for a foreground job's end: WORK_DATA and WORK_COMPLETE make up the result. */
static enum outcome receive_result(input *in, const server *s, text *body, text *result) {
  int64_t deadline = now_ms() + option(RESULT_TIMEOUT);
  for (;;) {
    uint32_t kind;
    enum outcome outcome = receive_packet(in, &kind, body, deadline);
    if (outcome != DONE) {
      fail("%s: %s", s->name, outcome == TIMED_OUT ? "no result in time" : "connection closed before the result");
      return FAILED;
    }
    piece data = behind_handle(body);
    if (kind == WORK_DATA || kind == WORK_COMPLETE) add(result, data.data, data.size);
    if (result->size > MAX_RESULT) {
      fail("the result is larger than 16 MiB");
      return FAILED;
    }
    if (kind == WORK_COMPLETE) return DONE;
    if (kind != WORK_DATA && kind != WORK_WARNING && kind != WORK_STATUS) {
      fail("the worker failed");
      return FAILED;
    }
  }
}

/* One job over one connection. `answered`: the server said something, so the connection was not stale. */
static enum outcome talk(input *in, server *s, const text *request, bool background, text *body, text *result, bool *answered) {
  uint32_t kind;
  int64_t deadline = reply_deadline(request->size);
  *answered = false;
  enum outcome outcome = send_all(in->fd, request->data, request->size, deadline);
  if (outcome == DONE && !wait_for(in->fd, POLLIN, deadline)) outcome = TIMED_OUT; /* it has not answered yet */
  if (outcome == DONE) outcome = receive_packet(in, &kind, body, deadline);
  if (outcome != DONE) {
    fail("%s: %s", s->name, outcome == TIMED_OUT ? "no answer in time" : "connection closed");
    return outcome;
  }
  *answered = true;
  if (kind != JOB_CREATED && kind != ERROR) {
    fail("%s does not speak the Gearman protocol", s->name);
    return CLOSED;
  }
  if (kind == ERROR) return refused(s, body);
  if (!background) {
    is_well(s); /* said now, for its result may take long */
    return receive_result(in, s, body, result);
  }
  add(result, body->data, body->size);
  return DONE;
}

/* One job by one server: an idle connection that turns out to be dead is replaced once. */
static enum outcome ask(server *s, const text *request, bool background, text *body, text *result) {
  bool reused = true, answered;
  enum outcome outcome = CLOSED;
  while (reused) {
    int fd = check_out(s, &reused);
    if (fd < 0) {
      if (!reused) give_up(s, CLOSED);
      return CLOSED;
    }
    input in;
    begin(&in, fd);
    result->size = 0;
    outcome = talk(&in, s, request, background, body, result, &answered);
    if (outcome == DONE) *last_error = 0; /* of a connection that was dead */
    if (outcome == DONE && !buffered(&in)) {
      check_in(s, fd);
      return DONE;
    }
    close(fd); /* after a refusal too: whatever still arrives on it belongs to nobody */
    if (outcome == DONE || outcome == REFUSED || outcome == FAILED) {
      is_well(s);
      return outcome;
    }
    if (outcome == TIMED_OUT || answered) break;
    /* Closed without a word: the job may have been taken all the same, so it may come twice, but it does come. */
  }
  if (outcome == CLOSED && !answered && request->size > LARGE) {
    /* Perhaps only this is more than it takes (gearmand and syncbridge then close): no reason to keep others' jobs from
     * it. Whether the server is well, the next call tells. */
    fail("%s: connection closed under a job of %zu bytes: perhaps larger than it takes", s->name, request->size);
    return outcome;
  }
  give_up(s, outcome);
  return outcome;
}

static bool submit(uint32_t kind, bool background, piece function, piece unique, piece workload, text *result) {
  pool *p = pool_for(function);
  if (!p) {
    fail("no servers: call gman_servers_set('host:4730') first");
    count(&totals.failures);
    return false;
  }
  text request = {0}, body = {0};
  add_submit(&request, kind, function, unique, workload);
  enum outcome outcome = CLOSED;
  for (int s = 0; s < p->count && outcome != DONE && outcome != FAILED && !request.broken; s++)
    outcome = ask(&p->servers[s], &request, background, &body, result);
  bool done = outcome == DONE && !result->broken;
  count(done ? &totals.jobs : &totals.failures);
  free(request.data);
  free(body.data);
  release(p);
  return done;
}

/* -- gman_do and its five sisters --------------------------------------------------------------------------------------- */

static piece argument(const UDF_ARGS *args, unsigned int which) {
  if (which >= args->arg_count || !args->args[which]) return (piece){"", 0};
  return (piece){args->args[which], args->lengths[which]};
}

static bool valid(piece function, piece unique, piece workload) {
  if (!function.size || function.size > MAX_FUNCTION || memchr(function.data, 0, function.size))
    fail("the function's name must have 1 to %d bytes and no NUL", MAX_FUNCTION);
  else if (unique.size > MAX_UNIQUE || memchr(unique.data, 0, unique.size))
    fail("the unique must have at most %d bytes and no NUL", MAX_UNIQUE);
  else if (workload.size > MAX_REPLY)
    fail("the workload is larger than %u bytes", MAX_REPLY);
  else
    return true;
  return false;
}

static char do_init(UDF_INIT *init, UDF_ARGS *args, char *message) {
  if (args->arg_count < 2 || args->arg_count > 3) {
    snprintf(message, MESSAGE_SIZE, "Must give two or three arguments: function, workload and, if you like, unique.");
    return 1;
  }
  if (args->arg_type[0] != STRING_RESULT) {
    snprintf(message, MESSAGE_SIZE, "First argument must be a string.");
    return 1;
  }
  for (unsigned int i = 1; i < args->arg_count; i++) args->arg_type[i] = STRING_RESULT;
  return new_state(init, message);
}

static char *do_call(uint32_t kind, bool background, UDF_INIT *init, UDF_ARGS *args, unsigned long *length, char *is_null) {
  piece function = argument(args, 0), workload = argument(args, 1), unique = argument(args, 2);
  text *result = state_of(init);
  result->size = 0;
  *last_error = 0;
  if (!valid(function, unique, workload) || !submit(kind, background, function, unique, workload, result)) {
    *is_null = 1;
    return NULL;
  }
  return give(result, length, is_null);
}

#define GMAN_DO(name, kind, background)                                                                                \
  PUBLIC char name##_init(UDF_INIT *init, UDF_ARGS *args, char *message) { return do_init(init, args, message); }       \
  PUBLIC void name##_deinit(UDF_INIT *init) { free_state(init); }                                                       \
  PUBLIC char *name(UDF_INIT *init, UDF_ARGS *args, char *buffer, unsigned long *length, char *is_null, char *error) {  \
    (void)buffer, (void)error;                                                                                          \
    return do_call(kind, background, init, args, length, is_null);                                                      \
  }

GMAN_DO(gman_do, SUBMIT_JOB, false)
GMAN_DO(gman_do_high, SUBMIT_JOB_HIGH, false)
GMAN_DO(gman_do_low, SUBMIT_JOB_LOW, false)
GMAN_DO(gman_do_background, SUBMIT_JOB_BG, true)
GMAN_DO(gman_do_high_background, SUBMIT_JOB_HIGH_BG, true)
GMAN_DO(gman_do_low_background, SUBMIT_JOB_LOW_BG, true)

/* -- gman_sum: all rows of a group over one connection, answers read as they come ---------------------------------------- */

typedef struct {
  text request, body;
  pool *pool;
  server *server;
  input in;
  unsigned long long sent, accepted, ended;
  size_t unanswered; /* bytes sent since the server had accepted everything */
  long long sum;
  bool broken;
} sum_state;

PUBLIC char gman_sum_init(UDF_INIT *init, UDF_ARGS *args, char *message) {
  if (args->arg_count != 2 || args->arg_type[0] != STRING_RESULT) {
    snprintf(message, MESSAGE_SIZE, "Must give two arguments: function, a string, and value.");
    return 1;
  }
  args->arg_type[1] = STRING_RESULT;
  sum_state *state = calloc(1, sizeof *state);
  if (!state) {
    snprintf(message, MESSAGE_SIZE, "out of memory");
    return 1;
  }
  begin(&state->in, -1);
  init->ptr = (char *)state;
  init->maybe_null = 1;
  init->const_item = 0;
  return 0;
}

static void sum_end(sum_state *state) {
  if (state->in.fd >= 0) {
    if (!state->broken && state->sent == state->ended && !buffered(&state->in)) check_in(state->server, state->in.fd);
    else close(state->in.fd);
  }
  if (state->pool) release(state->pool);
  begin(&state->in, -1);
  state->pool = NULL;
}

PUBLIC void gman_sum_clear(UDF_INIT *init, char *is_null, char *error) {
  (void)is_null, (void)error;
  sum_state *state = (sum_state *)init->ptr;
  sum_end(state);
  state->sent = state->accepted = state->ended = state->unanswered = 0;
  state->sum = 0;
  state->broken = false;
}

PUBLIC void gman_sum_deinit(UDF_INIT *init) {
  sum_state *state = (sum_state *)init->ptr;
  sum_end(state);
  free(state->request.data);
  free(state->body.data);
  free(state);
}

/* Read one packet of the group. */
static void sum_receive(sum_state *state, int64_t deadline) {
  uint32_t kind;
  enum outcome outcome = receive_packet(&state->in, &kind, &state->body, deadline);
  if (outcome != DONE) {
    fail("%s: not all results arrived", state->server->name);
    if (state->accepted < state->sent) give_up(state->server, outcome); /* else only a worker is slow */
    state->broken = true;
    return;
  }
  if ((kind == JOB_CREATED && !state->accepted) || kind == ERROR) is_well(state->server);
  if (kind == JOB_CREATED) {
    if (++state->accepted == state->sent) state->unanswered = 0;
  } else if (kind == WORK_COMPLETE) {
    piece data = behind_handle(&state->body);
    char digits[32] = "";
    memcpy(digits, data.data, data.size < sizeof digits - 1 ? data.size : sizeof digits - 1);
    state->sum += atoll(digits);
    state->ended++;
  } else if (kind == WORK_FAIL || kind == WORK_EXCEPTION || kind == ERROR) {
    if (kind == ERROR) refused(state->server, &state->body);
    else fail("the worker failed");
    state->broken = true;
  }
}

static bool sum_connect(sum_state *state, piece function) {
  state->pool = pool_for(function);
  for (int s = 0; state->pool && s < state->pool->count && state->in.fd < 0; s++) {
    bool reused = true;
    state->server = &state->pool->servers[s];
    begin(&state->in, check_out(state->server, &reused));
    if (state->in.fd < 0 && !reused) give_up(state->server, CLOSED);
  }
  if (!state->pool) fail("no servers: call gman_servers_set('host:4730') first");
  return state->in.fd >= 0;
}

PUBLIC void gman_sum_add(UDF_INIT *init, UDF_ARGS *args, char *is_null, char *error) {
  (void)is_null, (void)error;
  sum_state *state = (sum_state *)init->ptr;
  piece function = argument(args, 0), value = argument(args, 1);
  if (state->broken || !args->args[1]) return;
  *last_error = 0;
  if (!valid(function, (piece){"", 0}, value) || (state->in.fd < 0 && !sum_connect(state, function))) {
    state->broken = true;
    return;
  }
  state->request.size = 0;
  add_submit(&state->request, SUBMIT_JOB, function, (piece){"", 0}, value);
  state->sent++;
  state->unanswered += state->request.size;
  /* A server whose answers nobody reads stops reading itself: take what is there before sending more. */
  while (!state->broken && (buffered(&state->in) || wait_for(state->in.fd, POLLIN, 0))) sum_receive(state, now_ms() + option(REPLY_TIMEOUT));
  if (!state->broken && send_all(state->in.fd, state->request.data, state->request.size, reply_deadline(state->unanswered)) != DONE) {
    fail("%s: connection closed", state->server->name);
    state->broken = true;
  }
}

PUBLIC long long gman_sum(UDF_INIT *init, UDF_ARGS *args, char *is_null, char *error) {
  (void)args, (void)error;
  sum_state *state = (sum_state *)init->ptr;
  int64_t deadline = reply_deadline(state->unanswered);
  while (!state->broken && state->accepted < state->sent) sum_receive(state, deadline);
  deadline = now_ms() + option(RESULT_TIMEOUT);
  while (!state->broken && state->ended < state->sent) sum_receive(state, deadline);
  bool broken = state->broken;
  if (state->sent || broken) count(broken ? &totals.failures : &totals.jobs);
  sum_end(state);
  if (broken) *is_null = 1;
  return broken ? 0 : state->sum;
}

/* -- settings ----------------------------------------------------------------------------------------------------------- */

PUBLIC char gman_servers_set_init(UDF_INIT *init, UDF_ARGS *args, char *message) {
  bool strings = args->arg_count && args->arg_type[0] == STRING_RESULT;
  if (args->arg_count < 1 || args->arg_count > 2 || !strings) {
    snprintf(message, MESSAGE_SIZE, "Must give a list of servers such as 'host:4730,other:4730' and, if you like, a function.");
    return 1;
  }
  if (args->arg_count == 2) args->arg_type[1] = STRING_RESULT;
  return new_state(init, message);
}

PUBLIC void gman_servers_set_deinit(UDF_INIT *init) { free_state(init); }

/* NULL and '' change nothing: the list of everybody is too much to lose over an unset variable. '-' removes it. */
PUBLIC char *gman_servers_set(UDF_INIT *init, UDF_ARGS *args, char *buffer, unsigned long *length, char *is_null, char *error) {
  (void)buffer, (void)error;
  piece list = argument(args, 0), function = argument(args, 1);
  text *copy = state_of(init);
  char name[MAX_FUNCTION + 1] = "";
  *last_error = 0;
  copy->size = 0;
  add(copy, list.data, list.size);
  add(copy, "", 1);
  if (!list.size || memchr(list.data, 0, list.size) || function.size > MAX_FUNCTION || copy->broken) {
    fail("gman_servers_set needs a list such as 'host:4730,other:4730'; '-' removes it");
    *is_null = 1;
    return NULL;
  }
  memcpy(name, function.data, function.size);
  pool *fresh = strcmp(copy->data, "-") ? new_pool(copy->data, name) : NULL;
  if (strcmp(copy->data, "-") && !fresh) {
    *is_null = 1;
    return NULL;
  }
  replace_pool(name, fresh);
  copy->size--;
  return give(copy, length, is_null);
}

PUBLIC char gman_option_set_init(UDF_INIT *init, UDF_ARGS *args, char *message) {
  if (args->arg_count != 2 || args->arg_type[0] != STRING_RESULT) {
    snprintf(message, MESSAGE_SIZE, "Must give an option's name and its value in milliseconds.");
    return 1;
  }
  args->arg_type[1] = INT_RESULT;
  init->maybe_null = 1;
  init->const_item = 0;
  return 0;
}

/* The value now in force; NULL for an unknown name or a value outside 1..3600000. */
PUBLIC long long gman_option_set(UDF_INIT *init, UDF_ARGS *args, char *is_null, char *error) {
  (void)init, (void)error;
  piece name = argument(args, 0);
  long long value = args->args[1] ? *(long long *)args->args[1] : 0;
  *last_error = 0;
  for (int i = 0; i < OPTIONS; i++) {
    if (strlen(options[i].name) != name.size || memcmp(options[i].name, name.data, name.size)) continue;
    if (value < 1 || value > 3600000) break;
    __atomic_store_n(&options[i].value, (long)value, __ATOMIC_RELAXED);
    return value;
  }
  fail("options are connect_timeout, reply_timeout, result_timeout and breaker, 1 to 3600000 milliseconds each");
  *is_null = 1;
  return 0;
}

/* -- what happened -------------------------------------------------------------------------------------------------------- */

static char no_arguments(UDF_INIT *init, UDF_ARGS *args, char *message) {
  if (!args->arg_count) return new_state(init, message);
  snprintf(message, MESSAGE_SIZE, "Takes no arguments.");
  return 1;
}

PUBLIC char gman_last_error_init(UDF_INIT *init, UDF_ARGS *args, char *message) { return no_arguments(init, args, message); }
PUBLIC void gman_last_error_deinit(UDF_INIT *init) { free_state(init); }

/* NULL after a call that went well. A server that runs sessions in a pool of threads may show another session's. */
PUBLIC char *gman_last_error(UDF_INIT *init, UDF_ARGS *args, char *buffer, unsigned long *length, char *is_null, char *error) {
  (void)args, (void)buffer, (void)error;
  text *t = state_of(init);
  t->size = 0;
  add_string(t, last_error);
  if (!*last_error) *is_null = 1;
  return give(t, length, is_null);
}

PUBLIC char gman_stats_init(UDF_INIT *init, UDF_ARGS *args, char *message) { return no_arguments(init, args, message); }
PUBLIC void gman_stats_deinit(UDF_INIT *init) { free_state(init); }

static void add_json_string(text *t, const unsigned char *data, size_t size);

PUBLIC char *gman_stats(UDF_INIT *init, UDF_ARGS *args, char *buffer, unsigned long *length, char *is_null, char *error) {
  (void)args, (void)buffer, (void)error;
  text *t = state_of(init);
  char line[512];
  t->size = 0;
  pthread_mutex_lock(&lock);
  snprintf(line, sizeof line,
           "{\"version\": %d, \"jobs\": %llu, \"failures\": %llu, \"connects\": %llu, \"reuses\": %llu, \"timeouts\": %llu, \"skipped\": %llu",
           LIBRARY_VERSION, counted(&totals.jobs), counted(&totals.failures), counted(&totals.connects), counted(&totals.reuses),
           counted(&totals.timeouts), counted(&totals.skipped));
  add_string(t, line);
  for (int i = 0; i < OPTIONS; i++) {
    snprintf(line, sizeof line, "%s\"%s\": %ld", i ? ", " : ", \"options\": {", options[i].name, option(i));
    add_string(t, line);
  }
  add_string(t, "}, \"servers\": [");
  int64_t now = now_ms();
  const char *comma = "";
  for (pool *p = pools; p; p = p->next)
    for (int s = 0; s < p->count; s++, comma = ", ") {
      add_string(t, comma);
      add_string(t, "{\"function\": ");
      add_json_string(t, (unsigned char *)p->function, strlen(p->function));
      add_string(t, ", \"server\": ");
      add_json_string(t, (unsigned char *)p->servers[s].name, strlen(p->servers[s].name));
      add_string(t, ", \"address\": ");
      add_json_string(t, (unsigned char *)p->servers[s].shown, strlen(p->servers[s].shown));
      snprintf(line, sizeof line, ", \"idle\": %d, \"failed\": %s}", p->servers[s].idle_count,
               p->servers[s].retry_at > now ? "true" : "false");
      add_string(t, line);
    }
  pthread_mutex_unlock(&lock);
  add_string(t, "]}");
  return give(t, length, is_null);
}

/* -- JSON ------------------------------------------------------------------------------------------------------------------- */

/* Bytes of the UTF-8 character at `data`, 0 when it is none (overlong forms and surrogates included). */
static int utf8_length(const unsigned char *data, size_t left) {
  int size = *data < 0x80 ? 1 : *data >= 0xc2 && *data < 0xe0 ? 2 : (*data & 0xf0) == 0xe0 ? 3 : *data >= 0xf0 && *data < 0xf5 ? 4 : 0;
  if (!size || (size_t)size > left) return 0;
  for (int i = 1; i < size; i++)
    if ((data[i] & 0xc0) != 0x80) return 0;
  bool bad = (*data == 0xe0 && data[1] < 0xa0) || (*data == 0xed && data[1] > 0x9f) || (*data == 0xf0 && data[1] < 0x90) ||
             (*data == 0xf4 && data[1] > 0x8f);
  return bad ? 0 : size;
}

/* Quoted and escaped (RFC 8259). A byte that is no UTF-8 becomes the character of that number, as in latin1. */
static void add_json_string(text *t, const unsigned char *data, size_t size) {
  add(t, "\"", 1);
  for (size_t i = 0; i < size;) {
    int length = utf8_length(data + i, size - i);
    char escape[8];
    if (data[i] == '"' || data[i] == '\\') {
      snprintf(escape, sizeof escape, "\\%c", data[i]);
      add_string(t, escape);
    } else if (!length || data[i] < 0x20) {
      snprintf(escape, sizeof escape, "\\u%04x", data[i]);
      add_string(t, escape);
    } else {
      add(t, data + i, (size_t)length);
    }
    i += length ? (size_t)length : 1;
  }
  add(t, "\"", 1);
}

/* The shortest text that reads back as the same double; what JSON cannot hold is null. */
static void add_double(text *t, double value) {
  char number[40];
  if (value != value || value - value != 0) {
    add_string(t, "null");
    return;
  }
  for (int digits = 15; digits <= 17; digits++) {
    snprintf(number, sizeof number, "%.*g", digits, value);
    if (strtod(number, NULL) == value) break;
  }
  add_string(t, number);
}

/* A nested gman_json_... call is JSON already; the expression's text tells, so an alias hides it (gman_json_members
 * gives such a value a name). */
static bool is_json(const UDF_ARGS *args, unsigned int i) {
  static const char prefix[] = "gman_json_";
  size_t size = sizeof prefix - 1;
  return args->attributes && args->attributes[i] && args->attribute_lengths[i] > size &&
         !strncasecmp(args->attributes[i], prefix, size) && memchr(args->attributes[i], '(', args->attribute_lengths[i]);
}

/* DECIMAL arrives as text; MariaDB prints .5 for some, which is no JSON. */
static void add_decimal(text *t, const char *digits, size_t size) {
  if (size && *digits == '-') add(t, digits++, 1), size--;
  if (size && *digits == '.') add(t, "0", 1);
  add(t, digits, size);
}

static void add_value(text *t, const UDF_ARGS *args, unsigned int i) {
  char number[32];
  if (!args->args[i]) {
    add_string(t, "null");
  } else if (args->arg_type[i] == INT_RESULT) {
    snprintf(number, sizeof number, "%lld", *(long long *)args->args[i]);
    add_string(t, number);
  } else if (args->arg_type[i] == REAL_RESULT) {
    add_double(t, *(double *)args->args[i]);
  } else if (args->arg_type[i] == DECIMAL_RESULT) {
    add_decimal(t, args->args[i], args->lengths[i]);
  } else if (is_json(args, i)) {
    add(t, args->args[i], args->lengths[i]);
  } else {
    add_json_string(t, (unsigned char *)args->args[i], args->lengths[i]);
  }
}

/* A member's name: the alias, or the column's name. The server gives a column without its qualifier; what is stripped
 * here is NEW. and OLD., and backticks. */
static void add_name(text *t, const UDF_ARGS *args, unsigned int i) {
  const char *name = args->attributes[i];
  size_t size = args->attribute_lengths[i];
  if (size > 4 && (!strncasecmp(name, "NEW.", 4) || !strncasecmp(name, "OLD.", 4))) name += 4, size -= 4;
  if (size > 1 && *name == '`' && name[size - 1] == '`') name++, size -= 2;
  add_json_string(t, (const unsigned char *)name, size);
}

static void add_members(text *t, const UDF_ARGS *args) {
  for (unsigned int i = 0; i < args->arg_count; i++) {
    if (i) add(t, ",", 1);
    add_name(t, args, i);
    add(t, ":", 1);
    add_value(t, args, i);
  }
}

static void add_values(text *t, const UDF_ARGS *args) {
  for (unsigned int i = 0; i < args->arg_count; i++) {
    if (i) add(t, ",", 1);
    add_value(t, args, i);
  }
}

/* gman_json_members(name, value, ...): pairs without braces, for nesting in text of your own. */
static void add_pairs(text *t, const UDF_ARGS *args) {
  for (unsigned int i = 0; i + 1 < args->arg_count; i += 2) {
    if (i) add(t, ",", 1);
    add_json_string(t, (unsigned char *)(args->args[i] ? args->args[i] : ""), args->args[i] ? args->lengths[i] : 0);
    add(t, ":", 1);
    add_value(t, args, i + 1);
  }
}

static char members_init(UDF_INIT *init, UDF_ARGS *args, char *message) {
  if (args->arg_count % 2) {
    snprintf(message, MESSAGE_SIZE, "Must give pairs of name and value.");
    return 1;
  }
  for (unsigned int i = 0; i < args->arg_count; i += 2) args->arg_type[i] = STRING_RESULT;
  return new_state(init, message);
}

static char json_init(UDF_INIT *init, UDF_ARGS *args, char *message) {
  (void)args;
  return new_state(init, message);
}

#define GMAN_JSON(name, start, open, append, close)                                                                    \
  PUBLIC char name##_init(UDF_INIT *init, UDF_ARGS *args, char *message) { return start(init, args, message); }         \
  PUBLIC void name##_deinit(UDF_INIT *init) { free_state(init); }                                                       \
  PUBLIC char *name(UDF_INIT *init, UDF_ARGS *args, char *buffer, unsigned long *length, char *is_null, char *error) {  \
    (void)buffer, (void)error;                                                                                          \
    text *t = state_of(init);                                                                                           \
    t->size = 0;                                                                                                        \
    add_string(t, open);                                                                                                \
    append(t, args);                                                                                                    \
    add_string(t, close);                                                                                               \
    return give(t, length, is_null);                                                                                    \
  }

GMAN_JSON(gman_json_object, json_init, "{", add_members, "}")
GMAN_JSON(gman_json_array, json_init, "[", add_values, "]")
GMAN_JSON(gman_json_values, json_init, "", add_values, "")
GMAN_JSON(gman_json_members, members_init, "", add_pairs, "")

/* The last DROP FUNCTION unloads the library: nothing may stay behind. */
__attribute__((destructor)) static void unload(void) {
  while (pools) {
    pool *p = pools;
    pools = p->next;
    release(p);
  }
}
