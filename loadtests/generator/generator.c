/* A load generator for one gRPC server on this machine: ModelInfer or ModelStreamInfer over HTTP/2 without TLS.
 *
 * It is in C because a client in Python costs more CPU per request than the server it measures, so that on two cores
 * the client would be what limits. Requests are ready-made bytes and answers are not decoded: what it does per request
 * is HTTP/2 framing (libnghttp2), one look at grpc-status, and its share of one send and one recv per loop turn.
 *
 * Closed loop (--callers): each caller sends its next request when the last one is answered. Open loop (--arrivals):
 * each request is due at its own time whatever the answers, and counts from then, so that a late send cannot hide.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the files are little-endian and are read and written as they lie in memory"
#endif

enum { FAILED = 1, USAGE = 2 }; /* exit codes */
enum { NONE = -1, OK = 0, UNKNOWN = 2, DEADLINE_EXCEEDED = 4, UNAVAILABLE = 14 }; /* gRPC status; NONE: not told yet */
enum {
    LENGTH_BYTES = 4,         /* before each message of the file */
    PREFIX_BYTES = 5,         /* before each message of a gRPC call: compressed flag, big-endian length */
    ERROR_MESSAGE_TAG = 0x0a, /* ModelStreamInferResponse: field 1, length-delimited */
    WINDOW_BYTES = 16 << 20,  /* so that answers never wait for this program's WINDOW_UPDATE */
    READ_BYTES = 256 << 10,
    ENOUGH_BYTES = 256 << 10, /* one send takes about this much: a socket's buffer holds little more */
    FRAME_BYTES = 32 << 10,   /* libnghttp2 hands out at most a default frame (16 KiB and its head) at a time */
    MOST_SECONDS = 1000000,   /* as nanoseconds they fit 64 bits, as milliseconds 31 */
    MOST_TIMEOUT_US = 99999999, /* grpc-timeout has eight digits */
    MOST_CONNECTIONS = 1024,
    TIMER = MOST_CONNECTIONS, /* what epoll says when an arrival is due; smaller numbers are connections */
};

static const char usage[] =
    "--port N --messages FILE --result FILE (--callers N --seconds S [--stream] | --arrivals FILE) "
    "[--connections N] [--timeout-us N] [--patience S]";

struct frame { /* a request as it goes out: prefix and message */
    uint8_t *bytes;
    size_t size;
};

struct record { /* one finished request, as the result file has it; times are seconds from the start */
    uint32_t index;
    int32_t status;
    double meant, sent, ended;
};
_Static_assert(sizeof(struct record) == 32, "the result file has no padding");

struct call { /* one HTTP/2 stream: a request, or with --stream all those of a caller */
    LIST_ENTRY(call) list;
    int32_t stream, status;
    bool waiting;   /* a request is out that has no record yet */
    bool closing;   /* no request follows */
    bool body_done; /* END_STREAM went out */
    uint32_t index;
    double meant, begun; /* when it was due, and when this program came to it */
    size_t sent;
    uint8_t answer[PREFIX_BYTES + 1]; /* that is coming in: its prefix and its first byte */
    size_t answer_have, answer_size, answers;
};

struct connection {
    int socket;
    nghttp2_session *session;
    LIST_HEAD(, call) calls;
    bool alive, settings_came, settings_taken, wants_room;
    size_t out_from, out_to; /* what waits in `out` */
    uint8_t out[ENOUGH_BYTES + FRAME_BYTES];
};

static struct {
    long port, connections, callers, timeout_us; /* of each call, 0 for none */
    double seconds, patience;
    bool stream;
    const char *messages, *result, *arrivals;
} options = {.connections = 4, .patience = 60};

static struct frame *frames;
static size_t frame_count;
static double *arrivals;
static size_t arrival_count, next_arrival;
static struct connection *connections; /* options.connections of them */
static struct record *records;
static size_t record_count, record_room;
static size_t turn;       /* requests sent so far, by all callers */
static size_t open_calls; /* HTTP/2 streams that have not ended */
static double last_send;
static int64_t start_ns;
static bool started;
static int poller, timer;
static char authority[32], timeout[32]; /* headers, as text */

__attribute__((noreturn, format(printf, 2, 3))) static void die(int code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("generator: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(code);
}

static void *must(void *memory) {
    if (!memory) die(FAILED, "out of memory after %zu requests", turn);
    return memory;
}

static void must_nghttp2(int result) {
    if (result < 0) die(FAILED, "libnghttp2: %s", nghttp2_strerror(result));
}

static int64_t clock_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static double now(void) { return (double)(clock_ns() - start_ns) * 1e-9; }

/* ---- what is given (the open loop needs no --seconds: it lasts as long as its arrivals) ---- */

static uint8_t *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file) die(USAGE, "%s: %s; expected a file to read", path, strerror(errno));
    size_t room = 1 << 16, got;
    uint8_t *content = must(malloc(room));
    for (*size = 0; (got = fread(content + *size, 1, room - *size, file)) > 0; *size += got)
        if (*size + got == room) content = must(realloc(content, room *= 2));
    if (ferror(file)) die(USAGE, "%s: %s; expected a file to read", path, strerror(errno));
    fclose(file);
    if (!*size) die(USAGE, "%s: is empty", path);
    return content;
}

static void read_messages(const char *path) {
    size_t size, at = 0, room = 0;
    uint8_t *content = read_file(path, &size);
    while (at < size) {
        uint32_t length = 0;
        if (size - at >= LENGTH_BYTES) memcpy(&length, content + at, LENGTH_BYTES);
        if (size - at < LENGTH_BYTES || size - at - LENGTH_BYTES < length)
            die(USAGE, "%s: truncated in message %zu (byte %zu of %zu); expected messages, each after its length as %d "
                "little-endian bytes", path, frame_count, at, size, LENGTH_BYTES);
        if (frame_count == room) frames = must(realloc(frames, (room = room ? 2 * room : 64) * sizeof *frames));
        struct frame *frame = &frames[frame_count++];
        *frame = (struct frame){must(malloc((size_t)length + PREFIX_BYTES)), (size_t)length + PREFIX_BYTES};
        frame->bytes[0] = 0;
        memcpy(frame->bytes + 1, &(uint32_t){htonl(length)}, sizeof length);
        memcpy(frame->bytes + PREFIX_BYTES, content + at + LENGTH_BYTES, length);
        at += LENGTH_BYTES + (size_t)length;
    }
    free(content);
}

static void read_arrivals(const char *path) {
    size_t size;
    arrivals = (double *)(void *)read_file(path, &size); /* malloc aligns it */
    arrival_count = size / sizeof *arrivals;
    if (size % sizeof *arrivals) die(USAGE, "%s: %zu bytes; expected float64 seconds, 8 bytes each", path, size);
    for (size_t each = 0; each < arrival_count; each++)
        if (!(arrivals[each] >= (each ? arrivals[each - 1] : 0) && arrivals[each] <= MOST_SECONDS))
            die(USAGE, "%s: arrival %zu is %g; expected ascending seconds from 0 to %d", path, each, arrivals[each],
                MOST_SECONDS);
}

static double number(const char *name, const char *text, double least, double most, bool whole) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= least && value <= most) || (whole && value != (double)(long)value))
        die(USAGE, "--%s %s: expected a%s number from %g to %g", name, text, whole ? " whole" : "", least, most);
    return value;
}

static void read_options(int count, char **given) {
    static const struct option known[] = {
        {"port", 1, 0, 'p'}, {"messages", 1, 0, 'm'}, {"result", 1, 0, 'r'}, {"seconds", 1, 0, 's'},
        {"connections", 1, 0, 'n'}, {"callers", 1, 0, 'c'}, {"arrivals", 1, 0, 'a'}, {"patience", 1, 0, 'w'},
        {"timeout-us", 1, 0, 't'}, {"stream", 0, 0, 'S'}, {0}};
    opterr = 0; /* one line, and it is ours */
    for (int option; (option = getopt_long(count, given, "", known, NULL)) != -1;) {
        switch (option) {
        case 'p': options.port = (long)number("port", optarg, 1, 65535, true); break;
        case 'm': options.messages = optarg; break;
        case 'r': options.result = optarg; break;
        case 's': options.seconds = number("seconds", optarg, 1e-6, MOST_SECONDS, false); break;
        case 'n': options.connections = (long)number("connections", optarg, 1, MOST_CONNECTIONS, true); break;
        case 'c': options.callers = (long)number("callers", optarg, 1, 1e6, true); break;
        case 'a': options.arrivals = optarg; break;
        case 'w': options.patience = number("patience", optarg, 1e-3, MOST_SECONDS, false); break;
        case 't': options.timeout_us = (long)number("timeout-us", optarg, 1, MOST_TIMEOUT_US, true); break;
        case 'S': options.stream = true; break;
        default: die(USAGE, "%s: unknown, or without its value; expected %s", given[optind - 1], usage);
        }
    }
    if (optind < count) die(USAGE, "%s: not an option; expected %s", given[optind], usage);
    if (!options.port || !options.messages || !options.result)
        die(USAGE, "--port, --messages and --result are needed; expected %s", usage);
    if (!options.callers == !options.arrivals) die(USAGE, "--callers or --arrivals is needed; expected %s", usage);
    if (options.callers && options.seconds <= 0) die(USAGE, "--callers needs --seconds; expected %s", usage);
    if (options.stream && options.arrivals) die(USAGE, "--stream goes with --callers only; expected %s", usage);
}

/* ---- requests and their answers ---- */

static void write_down(uint32_t index, int32_t status, double meant, double begun) {
    if (record_count == record_room)
        records = must(realloc(records, (record_room = record_room ? 2 * record_room : 1 << 16) * sizeof *records));
    records[record_count++] = (struct record){index, status, meant, begun, now()};
}

static void settle(struct call *call, int32_t status) {
    if (call->waiting) write_down(call->index, status, call->meant, call->begun);
    call->waiting = false;
}

static void take_turn(struct call *call, double meant) {
    call->index = (uint32_t)(turn++ % frame_count);
    call->meant = meant;
    call->sent = 0;
    call->waiting = true;
    last_send = call->begun = now();
}

static ssize_t give_body(nghttp2_session *session, int32_t stream, uint8_t *buffer, size_t room, uint32_t *flags,
                         nghttp2_data_source *source, void *connection) {
    (void)session, (void)stream, (void)connection;
    struct call *call = source->ptr;
    const struct frame *frame = &frames[call->index];
    size_t size = frame->size - call->sent < room ? frame->size - call->sent : room;
    memcpy(buffer, frame->bytes + call->sent, size);
    call->sent += size;
    if (call->sent == frame->size && call->closing) {
        call->body_done = true;
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    } else if (!size) {
        return NGHTTP2_ERR_DEFERRED; /* until the caller's next request */
    }
    return (ssize_t)size;
}

#define NO_COPY (NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE)
#define HEADER(name, value) {(uint8_t *)(name), (uint8_t *)(value), strlen(name), strlen(value), NO_COPY}
#define UNARY_PATH "/inference.GRPCInferenceService/ModelInfer"
#define STREAM_PATH "/inference.GRPCInferenceService/ModelStreamInfer"

static bool begin_call(struct connection *connection, double meant) {
    /* After a GOAWAY libnghttp2 would refuse each new stream at once, and a closed loop would spin on that. */
    if (!connection->alive || !nghttp2_session_check_request_allowed(connection->session)) return false;
    struct call *call = must(calloc(1, sizeof *call));
    call->status = NONE;
    call->closing = !options.stream;
    take_turn(call, meant);
    const char *path = options.stream ? STREAM_PATH : UNARY_PATH;
    const nghttp2_nv headers[] = {
        HEADER(":method", "POST"),       HEADER(":scheme", "http"), HEADER(":path", path),
        HEADER(":authority", authority), HEADER("te", "trailers"),  HEADER("content-type", "application/grpc"),
        HEADER("grpc-timeout", timeout)};
    size_t header_count = sizeof headers / sizeof *headers - !options.timeout_us;
    nghttp2_data_provider body = {.source.ptr = call, .read_callback = give_body};
    call->stream =
        nghttp2_submit_request(connection->session, NULL, headers, header_count, &body, call);
    must_nghttp2(call->stream);
    LIST_INSERT_HEAD(&connection->calls, call, list);
    open_calls++;
    return true;
}

static void end_call(struct call *call, bool clean) {
    int32_t status = call->status;
    if (status == NONE) status = clean ? UNKNOWN : UNAVAILABLE;
    bool unanswered = call->waiting && (options.stream || !call->answers);
    if (status == OK && unanswered) status = UNKNOWN; /* a server that says OK must have answered */
    if (status != OK && !call->waiting)
        fprintf(stderr, "generator: a stream ended with status %d after its last answer\n", status);
    settle(call, status);
    LIST_REMOVE(call, list);
    free(call);
    open_calls--;
}

/* A whole message of a stream is there: the caller goes on, or says that it will not. */
static void take_stream_answer(nghttp2_session *session, struct call *call) {
    /* An answer that nothing asked for must not end a request that is still going out. */
    if (!call->waiting || call->sent < frames[call->index].size) return;
    bool failed = call->answer_size > PREFIX_BYTES && call->answer[PREFIX_BYTES] == ERROR_MESSAGE_TAG;
    settle(call, failed ? UNKNOWN : OK);
    double time = now();
    if (time < options.seconds) take_turn(call, time);
    else call->closing = true;
    /* It fails if the body is not deferred (it waits for the peer's window): then it is asked again anyway. */
    (void)nghttp2_session_resume_data(session, call->stream);
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data, size_t size,
                   void *connection) {
    (void)flags, (void)connection;
    struct call *call = nghttp2_session_get_stream_user_data(session, stream);
    while (call && size) {
        size_t taken = 1;
        if (call->answer_have < sizeof call->answer) call->answer[call->answer_have] = *data;
        else taken = size < call->answer_size - call->answer_have ? size : call->answer_size - call->answer_have;
        call->answer_have += taken;
        data += taken;
        size -= taken;
        if (call->answer_have == PREFIX_BYTES) {
            uint32_t length;
            memcpy(&length, call->answer + 1, sizeof length);
            call->answer_size = PREFIX_BYTES + (size_t)ntohl(length);
        }
        if (call->answer_have < PREFIX_BYTES || call->answer_have < call->answer_size) continue;
        call->answer_have = 0;
        call->answers++;
        if (options.stream) take_stream_answer(session, call);
    }
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_size,
                     const uint8_t *value, size_t value_size, uint8_t flags, void *connection) {
    static const char wanted[] = "grpc-status";
    (void)flags, (void)connection;
    if (name_size != sizeof wanted - 1 || memcmp(name, wanted, name_size)) return 0;
    struct call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (!call) return 0;
    char *end; /* libnghttp2 ends values with a zero byte */
    long status = strtol((const char *)value, &end, 10);
    bool valid = value_size && end == (const char *)value + value_size && status >= 0 && status <= INT32_MAX;
    call->status = valid ? (int32_t)status : UNKNOWN;
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user) {
    struct connection *connection = user;
    if (frame->hd.type == NGHTTP2_SETTINGS) {
        if (frame->hd.flags & NGHTTP2_FLAG_ACK) connection->settings_taken = true;
        else connection->settings_came = true;
    } else if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
               (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) {
        struct call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
        /* The server is done with a request that it has not read to the end: the rest is not wanted. */
        if (call && !call->body_done)
            must_nghttp2(nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, call->stream, NGHTTP2_CANCEL));
    }
    return 0;
}

static int on_close(nghttp2_session *session, int32_t stream, uint32_t error, void *connection) {
    struct call *call = nghttp2_session_get_stream_user_data(session, stream);
    if (!call) return 0;
    end_call(call, error == NGHTTP2_NO_ERROR);
    double time = now();
    if (options.callers && !options.stream && time < options.seconds) begin_call(connection, time);
    return 0;
}

/* ---- connections ---- */

static void lose(struct connection *connection, const char *why) {
    if (!started) die(FAILED, "%s: %s; expected a gRPC server without TLS", authority, why);
    fprintf(stderr, "generator: a connection to %s was lost: %s\n", authority, why);
    connection->alive = false;
    close(connection->socket);
    while (!LIST_EMPTY(&connection->calls)) end_call(LIST_FIRST(&connection->calls), false);
    nghttp2_session_del(connection->session);
}

static void watch(int what, int how, uint32_t events, uint32_t number) {
    struct epoll_event event = {.events = events, .data.u32 = number};
    if (epoll_ctl(poller, how, what, &event)) die(FAILED, "epoll_ctl: %s", strerror(errno));
}

static void open_connection(struct connection *connection, const nghttp2_session_callbacks *callbacks) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)options.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    connection->socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->socket < 0 || connect(connection->socket, (struct sockaddr *)&address, sizeof address))
        die(FAILED, "cannot connect to %s: %s; expected a gRPC server that listens there", authority, strerror(errno));
    setsockopt(connection->socket, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    fcntl(connection->socket, F_SETFL, fcntl(connection->socket, F_GETFL) | O_NONBLOCK);
    const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                               {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_BYTES}};
    must_nghttp2(nghttp2_session_client_new(&connection->session, callbacks, connection));
    must_nghttp2(nghttp2_submit_settings(connection->session, NGHTTP2_FLAG_NONE, settings, 2));
    must_nghttp2(nghttp2_session_set_local_window_size(connection->session, NGHTTP2_FLAG_NONE, 0, WINDOW_BYTES));
    connection->alive = true;
    watch(connection->socket, EPOLL_CTL_ADD, EPOLLIN, (uint32_t)(connection - connections));
}

static void collect_output(struct connection *connection) {
    if (connection->out_from)
        memmove(connection->out, connection->out + connection->out_from, connection->out_to - connection->out_from);
    connection->out_to -= connection->out_from;
    connection->out_from = 0;
    while (connection->out_to < ENOUGH_BYTES) {
        const uint8_t *data;
        ssize_t size = nghttp2_session_mem_send(connection->session, &data);
        must_nghttp2((int)size);
        if (!size) return;
        if (size > FRAME_BYTES) die(FAILED, "libnghttp2 gave %zd bytes; expected at most %d", size, FRAME_BYTES);
        memcpy(connection->out + connection->out_to, data, (size_t)size);
        connection->out_to += (size_t)size;
    }
}

static void send_output(struct connection *connection) {
    bool full = false;
    while (connection->alive && !full) {
        collect_output(connection);
        size_t size = connection->out_to - connection->out_from;
        if (!size) break;
        ssize_t sent = send(connection->socket, connection->out + connection->out_from, size, MSG_NOSIGNAL);
        if (sent > 0) connection->out_from += (size_t)sent;
        full = sent < 0 ? errno == EAGAIN : (size_t)sent < size;
        if (sent < 0 && errno != EAGAIN && errno != EINTR) lose(connection, strerror(errno));
    }
    if (!connection->alive) return;
    if (!nghttp2_session_want_read(connection->session) && !nghttp2_session_want_write(connection->session)) {
        lose(connection, "HTTP/2 ended by GOAWAY");
    } else if (full != connection->wants_room) {
        connection->wants_room = full;
        watch(connection->socket, EPOLL_CTL_MOD, EPOLLIN | (full ? EPOLLOUT : 0), (uint32_t)(connection - connections));
    }
}

static void receive(struct connection *connection) {
    static uint8_t buffer[READ_BYTES];
    ssize_t got = recv(connection->socket, buffer, sizeof buffer, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) return lose(connection, got ? strerror(errno) : "closed by the server");
    ssize_t taken = nghttp2_session_mem_recv(connection->session, buffer, (size_t)got);
    if (taken < 0) lose(connection, nghttp2_strerror((int)taken));
}

static void send_all(void) {
    for (long each = 0; each < options.connections; each++) send_output(&connections[each]);
}

/* Waits at most `seconds` (for ever if negative) and takes in what came. */
static void receive_any(double seconds) {
    struct epoll_event events[64];
    int milliseconds = seconds < 0 ? -1 : (int)(seconds * 1000) + 1;
    int count = epoll_wait(poller, events, sizeof events / sizeof *events, milliseconds);
    if (count < 0 && errno != EINTR) die(FAILED, "epoll_wait: %s", strerror(errno));
    for (int each = 0; each < count; each++)
        if (events[each].data.u32 != TIMER && events[each].events & ~(uint32_t)EPOLLOUT)
            receive(&connections[events[each].data.u32]);
}

/* ---- the run ---- */

/* Usual soft limits are lower than what MOST_CONNECTIONS take. */
static void allow_descriptors(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) die(FAILED, "getrlimit: %s", strerror(errno));
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit)) die(FAILED, "setrlimit: %s", strerror(errno));
}

static void connect_all(void) {
    nghttp2_session_callbacks *callbacks;
    must_nghttp2(nghttp2_session_callbacks_new(&callbacks));
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    snprintf(authority, sizeof authority, "127.0.0.1:%ld", options.port);
    snprintf(timeout, sizeof timeout, "%ldu", options.timeout_us);
    connections = must(calloc((size_t)options.connections, sizeof *connections));
    for (long each = 0; each < options.connections; each++) open_connection(&connections[each], callbacks);
    nghttp2_session_callbacks_del(callbacks);
    start_ns = clock_ns();
    for (long ready = 0; ready < options.connections;) {
        const struct connection *connection = &connections[ready];
        double left = options.patience - now();
        if (left <= 0)
            die(FAILED, "%s: no HTTP/2 within %g s; expected a gRPC server without TLS", authority, options.patience);
        if (connection->settings_came && connection->settings_taken) ready++;
        else send_all(), receive_any(left);
    }
    started = true;
    start_ns = clock_ns();
}

/* timerfd, not epoll's timeout: that one counts in milliseconds. */
static void set_timer(void) {
    struct itimerspec when = {0}; /* disarms it */
    if (next_arrival < arrival_count) {
        int64_t due = start_ns + (int64_t)(arrivals[next_arrival] * 1e9);
        when.it_value = (struct timespec){due / 1000000000, due % 1000000000};
    }
    if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL)) die(FAILED, "timerfd_settime: %s", strerror(errno));
}

static void send_arrivals(void) {
    size_t before = next_arrival;
    for (; next_arrival < arrival_count && arrivals[next_arrival] <= now(); next_arrival++) {
        double meant = arrivals[next_arrival];
        if (!begin_call(&connections[next_arrival % (size_t)options.connections], meant))
            write_down((uint32_t)(turn++ % frame_count), UNAVAILABLE, meant, now());
    }
    if (next_arrival != before || !before) set_timer();
}

static void run(void) {
    double time;
    for (long each = 0; each < options.callers && (time = now()) < options.seconds; each++)
        begin_call(&connections[each % options.connections], time);
    for (;;) {
        if (options.arrivals) send_arrivals();
        send_all();
        bool all_sent = next_arrival == arrival_count;
        double left = last_send + options.patience - now();
        if (all_sent && (!open_calls || left <= 0)) break;
        receive_any(all_sent ? left : -1);
    }
    struct call *call;
    for (long each = 0; each < options.connections; each++)
        LIST_FOREACH(call, &connections[each].calls, list) settle(call, DEADLINE_EXCEEDED);
}

int main(int count, char **given) {
    read_options(count, given);
    read_messages(options.messages);
    if (options.arrivals) read_arrivals(options.arrivals);
    FILE *result = fopen(options.result, "wb"); /* now: what cannot be written is better known before the run */
    if (!result) die(USAGE, "%s: %s; expected a file to write", options.result, strerror(errno));
    poller = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (poller < 0 || timer < 0) die(FAILED, "epoll or timerfd: %s", strerror(errno));
    watch(timer, EPOLL_CTL_ADD, EPOLLIN, TIMER);
    allow_descriptors();
    connect_all();
    run();
    if (fwrite(records, sizeof *records, record_count, result) != record_count || fclose(result))
        die(FAILED, "%s: %s; expected room for %zu records", options.result, strerror(errno), record_count);
    return 0;
}
