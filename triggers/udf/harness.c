/* Calls the functions as a server's sessions would: many threads, servers that die, answer late or say nonsense.
 *
 *   harness THREADS CALLS     exit 0 and one line of counts when every call did what it may do
 *
 * Built with ThreadSanitizer and run under valgrind by `make check`. The job servers are threads of this program: one
 * that behaves, one that closes after some answers, one that never answers, one that sends garbage.
 */

#define _GNU_SOURCE
#include <assert.h>
#include <netdb.h>

static int look_up(const char *name, const char *port, const struct addrinfo *wanted, struct addrinfo **found);
#define getaddrinfo look_up
#include "syncbridge_udf.c"
#undef getaddrinfo

enum manner { GOOD, CLOSING, SILENT, GARBAGE };
static struct peer { enum manner manner; int listener, port; unsigned long long jobs; } peers[4];
static bool over;

/* -- job servers ------------------------------------------------------------------------------------------------------- */

static bool read_exactly(int fd, char *to, size_t size) {
  while (size) {
    ssize_t got = recv(fd, to, size, 0);
    if (got <= 0) return false;
    to += got;
    size -= (size_t)got;
  }
  return true;
}

static void answer(int fd, uint32_t kind, const char *data, size_t size) {
  char packet[64] = "\0RES";
  put32(packet + 4, kind);
  put32(packet + 8, (uint32_t)size);
  memcpy(packet + 12, data, size);
  send(fd, packet, 12 + size, MSG_NOSIGNAL);
}

static void *serve_connection(void *argument) {
  struct peer *peer = ((struct { struct peer *peer; int fd; } *)argument)->peer;
  int fd = ((struct { struct peer *peer; int fd; } *)argument)->fd;
  free(argument);
  char header[12];
  for (int answered = 0; read_exactly(fd, header, sizeof header); answered++) {
    uint32_t kind = get32(header + 4), size = get32(header + 8);
    char *body = malloc(size + 1);
    if (!read_exactly(fd, body, size)) {
      free(body);
      break;
    }
    free(body);
    if (peer->manner == SILENT) continue;
    if (peer->manner == CLOSING && answered % 3 == 2) break;
    if (peer->manner == GARBAGE) {
      send(fd, "HTTP/1.1 400 Bad Request\r\n\r\n", 28, MSG_NOSIGNAL);
      break;
    }
    __atomic_add_fetch(&peer->jobs, 1, __ATOMIC_RELAXED);
    answer(fd, JOB_CREATED, "H:x:1", 5);
    bool foreground = kind == SUBMIT_JOB || kind == SUBMIT_JOB_HIGH || kind == SUBMIT_JOB_LOW;
    if (foreground) answer(fd, WORK_COMPLETE, "H:x:1\0" "7", 7);
  }
  close(fd);
  return NULL;
}

static void *serve(void *argument) {
  struct peer *peer = argument;
  for (int fd; (fd = accept(peer->listener, NULL, NULL)) >= 0;) {
    struct { struct peer *peer; int fd; } *one = malloc(sizeof *one);
    one->peer = peer;
    one->fd = fd;
    pthread_t thread;
    pthread_create(&thread, NULL, serve_connection, one);
    pthread_detach(thread);
  }
  return NULL;
}

static void start(struct peer *peer, enum manner manner) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  peer->manner = manner;
  peer->listener = socket(AF_INET, SOCK_STREAM, 0);
  assert(!bind(peer->listener, (struct sockaddr *)&address, size) && !listen(peer->listener, 128));
  getsockname(peer->listener, (struct sockaddr *)&address, &size);
  peer->port = ntohs(address.sin_port);
  pthread_t thread;
  pthread_create(&thread, NULL, serve, peer);
  pthread_detach(thread);
}

/* -- sessions ------------------------------------------------------------------------------------------------------------- */

typedef struct { char *values[3]; unsigned long lengths[3]; enum Item_result types[3]; UDF_ARGS args; } row;

static UDF_ARGS *arguments(row *r, unsigned int count, char *a, char *b, char *c) {
  char *values[] = {a, b, c};
  for (unsigned int i = 0; i < 3; i++) {
    r->values[i] = values[i];
    r->lengths[i] = values[i] ? strlen(values[i]) : 0;
    r->types[i] = STRING_RESULT;
  }
  r->args = (UDF_ARGS){.arg_count = count, .arg_type = r->types, .args = r->values, .lengths = r->lengths};
  return &r->args;
}

static void set_servers(const char *list) {
  UDF_INIT init = {0};
  row r;
  char message[MESSAGE_SIZE], null = 0, error = 0;
  unsigned long length;
  UDF_ARGS *args = arguments(&r, 1, (char *)list, NULL, NULL);
  assert(!gman_servers_set_init(&init, args, message));
  char *echo = gman_servers_set(&init, args, NULL, &length, &null, &error);
  assert(!null && length == strlen(list) && !memcmp(echo, list, length));
  gman_servers_set_deinit(&init);
}

typedef struct { int calls, number; unsigned long long done, null; } session;

static void one_call(session *s, int call) {
  UDF_INIT init = {0};
  row r;
  char message[MESSAGE_SIZE], null = 0, error = 0, data[64];
  unsigned long length = 0;
  snprintf(data, sizeof data, "%d:%d", s->number, call);
  UDF_ARGS *args = arguments(&r, 3, "f", call % 7 ? data : NULL, call % 5 ? "" : data);
  if (call % 10 == 9) {
    args->arg_count = 2;
    assert(!gman_sum_init(&init, args, message));
    gman_sum_clear(&init, &null, &error);
    for (int i = 0; i < 5; i++) gman_sum_add(&init, args, &null, &error);
    long long sum = gman_sum(&init, args, &null, &error);
    assert(null || sum == (args->args[1] ? 35 : 0));
    gman_sum_deinit(&init);
  } else if (call % 3) {
    assert(!gman_do_background_init(&init, args, message));
    char *handle = gman_do_background(&init, args, NULL, &length, &null, &error);
    assert(null || (length == 5 && !memcmp(handle, "H:x:1", 5)));
    gman_do_background_deinit(&init);
  } else {
    assert(!gman_do_high_init(&init, args, message));
    char *result = gman_do_high(&init, args, NULL, &length, &null, &error);
    assert(null || (length == 1 && *result == '7'));
    gman_do_high_deinit(&init);
  }
  if (null) s->null++;
  else s->done++;
}

static void *run_session(void *argument) {
  session *s = argument;
  for (int call = 0; call < s->calls; call++) one_call(s, call);
  return NULL;
}

/* Somebody changes settings and reads totals meanwhile. */
static void *run_administrator(void *argument) {
  const char *lists = argument;
  for (int turn = 0; !__atomic_load_n(&over, __ATOMIC_RELAXED); turn = (turn + 1) % 3) {
    set_servers(lists + 512 * turn);
    UDF_INIT init = {0};
    row r;
    char message[MESSAGE_SIZE], null = 0, error = 0;
    unsigned long length;
    UDF_ARGS *args = arguments(&r, 0, NULL, NULL, NULL);
    assert(!gman_stats_init(&init, args, message));
    char *stats = gman_stats(&init, args, NULL, &length, &null, &error);
    assert(!null && length > 2 && stats[0] == '{' && stats[length - 1] == '}');
    gman_stats_deinit(&init);
    usleep(5000);
  }
  return NULL;
}

/* -- names ---------------------------------------------------------------------------------------------------------------- */

static bool turned_round;

/* `twofold` is ::1, 127.0.0.1 and 127.0.0.1 once more, or the other way round; other names are what they are. */
static int look_up(const char *name, const char *port, const struct addrinfo *wanted, struct addrinfo **found) {
  if (strcmp(name, "twofold")) return getaddrinfo(name, port, wanted, found);
  const char *addresses[] = {"::1", "127.0.0.1", "127.0.0.1"};
  for (int i = 0; i < 3; i++, found = &(*found)->ai_next)
    assert(!getaddrinfo(addresses[turned_round ? 2 - i : i], port, wanted, found));
  return 0;
}

/* A server that listens on a name's second address only is found, and stays in use when the name is looked up again. */
static void check_names(void) {
  char list[64], message[MESSAGE_SIZE], null = 0, error = 0;
  snprintf(list, sizeof list, "twofold:%d", peers[0].port);
  set_servers(list);
  UDF_INIT init = {0};
  row r;
  unsigned long length = 0;
  UDF_ARGS *args = arguments(&r, 2, "f", "x", NULL);
  assert(!gman_do_background_init(&init, args, message));
  gman_do_background(&init, args, NULL, &length, &null, &error);
  assert(!null && length == 5);
  gman_do_background_deinit(&init);
  pool *known = pools;
  assert(known->count == 2 && !strcmp(known->servers[0].shown, "::1") && !strcmp(known->servers[1].shown, "127.0.0.1"));
  turned_round = true;
  set_servers(list);
  assert(pools == known && known->servers[1].idle_count == 1);
  set_servers("127.0.0.1:1,twofold:1");
  assert(pools != known && pools->count == 2);
}

int main(int count, char **values) {
  int threads = count > 1 ? atoi(values[1]) : 8, calls = count > 2 ? atoi(values[2]) : 300;
  for (int i = 0; i < 4; i++) start(&peers[i], (enum manner)i);
  options[CONNECT_TIMEOUT].value = options[REPLY_TIMEOUT].value = 100;
  options[BREAKER].value = 50;
  static char lists[3][512];
  snprintf(lists[0], 512, "127.0.0.1:%d", peers[0].port);
  snprintf(lists[1], 512, "127.0.0.1:%d,127.0.0.1:%d", peers[1].port, peers[0].port);
  snprintf(lists[2], 512, "127.0.0.1:%d 127.0.0.1:%d,localhost:%d", peers[2].port, peers[3].port, peers[0].port);
  check_names();
  set_servers(lists[0]);
  pthread_t workers[64], administrator;
  session sessions[64] = {0};
  assert(threads <= 64);
  for (int i = 0; i < threads; i++) {
    sessions[i] = (session){.calls = calls, .number = i};
    pthread_create(&workers[i], NULL, run_session, &sessions[i]);
  }
  pthread_create(&administrator, NULL, run_administrator, lists);
  unsigned long long done = 0, null = 0;
  for (int i = 0; i < threads; i++) {
    pthread_join(workers[i], NULL);
    done += sessions[i].done;
    null += sessions[i].null;
  }
  __atomic_store_n(&over, true, __ATOMIC_RELAXED);
  pthread_join(administrator, NULL);
  printf("%d sessions, %llu calls answered, %llu NULL, %llu connections opened, %llu used again, %llu time-outs\n", threads,
         done, null, totals.connects, totals.reuses, totals.timeouts);
  assert(done + null == (unsigned long long)threads * (unsigned long long)calls && done > 0);
  return 0;
}
