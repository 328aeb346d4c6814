/*
 * Long connections that are looked at all the time, for bench_long_connections.py:
 *
 *   hold open ADDRESS PORT COUNT RAMP_S LIFE_MIN_S LIFE_MAX_S SILENT_S SEED
 *   hold serve PORT DIGIT COUNTER IDLE_S
 *
 * `open` keeps so many connections open. Each sends a byte a second, and wants that byte and the
 * digit of its real back, the same digit all its life; at the end of its life it is closed in good
 * order by both sides, and another one takes its place. Lives are drawn evenly by the seed. A
 * connection breaks by a reset, an end that it did not ask for, a wrong echo, or a silence. It says
 *
 *   B REAL OPENED_S ENDED_S HOW PORT   of each broken one (REAL is - before the first echo)
 *   W REAL OPENED_S PORT               of one that has waited for a third of a silence: a worry
 *   S OPEN ENDED BROKEN REFUSED LATE   each second; LATE: had no answer to its SYN for a silence
 *   E PAUSE_S                          at the end: the longest that any echo was waited for
 *
 * on CLOCK_MONOTONIC. When its input ends, it closes all of them in good order and stops.
 *
 * `serve` answers each byte with the byte and its digit. COUNTER is a file that holds how many
 * connections have spoken and are open. Who is silent for too long has died, and is closed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PHASES      100 /* of a second: each connection has its turn in one of them */
#define MAX_FILES   20000
#define BACKLOG     4096
#define NO_DIGIT    '-'
#define FIRST_BYTE  'a'
#define LETTERS     26
#define EVENTS      512
#define ECHO_BYTES  2 /* the byte, and the digit of the real */
#define NANOSECONDS 1000000000L
#define WORRIES     3 /* of a silence, the first third passes without */

static int poll_fd;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / (double)NANOSECONDS;
}

static void watch(int fd, uint32_t what, void *of, int how)
{
	struct epoll_event wanted = {.events = what, .data.ptr = of};

	if (epoll_ctl(poll_fd, how, fd, &wanted))
		fail("epoll_ctl");
}

static void get_ready(void)
{
	struct rlimit files = {MAX_FILES, MAX_FILES};

	poll_fd = epoll_create1(0);
	if (poll_fd < 0 || setrlimit(RLIMIT_NOFILE, &files))
		fail("setrlimit");
	setvbuf(stdout, NULL, _IOLBF, 0);
}

/* ---- who opens ------------------------------------------------------------------------------ */

enum state {
	STATE_NONE,
	STATE_CONNECTING,
	STATE_OPEN,
	STATE_CLOSING
};

struct connection {
	int fd;
	enum state state;
	char sent, digit;
	int waiting;     /* for an echo */
	int echo_bytes;  /* of it that are there */
	double opened_s; /* asked for */
	double since_s;  /* of the state, or of the echo that is waited for */
	double end_s;
	int port; /* ours */
	int is_worried;
};

struct wish {
	struct sockaddr_in to;
	int count;
	double ramp_s, life_min_s, life_max_s, silent_s;
	double begun_s;
	int is_stopping;
};

static struct wish wish = {.to = {.sin_family = AF_INET}};
static struct connection *connections;
static unsigned long ended, broken, refused, late;
static int open_now;
static double longest_pause_s;

static void leave(struct connection *one)
{
	close(one->fd);
	if (one->state != STATE_CONNECTING)
		open_now--;
	one->state = STATE_NONE;
}

static void end_broken(struct connection *one, const char *how)
{
	broken++;
	printf("B %c %.3f %.3f %s %d\n", one->digit, one->opened_s, now_s(), how, one->port);
	leave(one);
}

static void heard_after(double pause_s)
{
	if (pause_s > longest_pause_s)
		longest_pause_s = pause_s;
}

static void begin(struct connection *one, double now)
{
	double life = wish.life_min_s + drand48() * (wish.life_max_s - wish.life_min_s);
	int yes = 1;

	if (!one->opened_s) /* the first ones do not all end together */
		life *= drand48();
	*one = (struct connection){.digit = NO_DIGIT, .opened_s = now, .since_s = now};
	one->end_s = now + life;
	one->state = STATE_CONNECTING;
	one->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (one->fd < 0 || setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)))
		fail("socket");
	watch(one->fd, EPOLLOUT, one, EPOLL_CTL_ADD);
	if (connect(one->fd, (struct sockaddr *)&wish.to, sizeof(wish.to)) && errno != EINPROGRESS)
		fail("connect");
}

static void say_byte(struct connection *one, double now)
{
	one->sent = FIRST_BYTE + lrand48() % LETTERS;
	one->is_worried = 0;
	one->waiting = 1;
	one->echo_bytes = 0;
	one->since_s = now;
	if (send(one->fd, &one->sent, 1, MSG_NOSIGNAL) != 1)
		end_broken(one, "reset");
}

/* Once: somebody may want to look at it while it lives. */
static void worry(struct connection *one, double now)
{
	if (one->is_worried || now - one->since_s < wish.silent_s / WORRIES)
		return;
	one->is_worried = 1;
	printf("W %c %.3f %d\n", one->digit, one->opened_s, one->port);
}

/* Once a second for each. */
static void take_turn(struct connection *one, int number, double now)
{
	int is_silent = now - one->since_s > wish.silent_s;

	if (one->waiting || one->state == STATE_CLOSING)
		worry(one, now);
	switch (one->state) {
	case STATE_NONE:
		if (!wish.is_stopping && now - wish.begun_s >= wish.ramp_s * number / wish.count)
			begin(one, now);
		break;
	case STATE_CONNECTING:
		if (!is_silent && !wish.is_stopping)
			break;
		late += is_silent;
		leave(one);
		break;
	case STATE_OPEN:
		if (one->waiting && is_silent) {
			end_broken(one, "silent");
		} else if (!one->waiting && (wish.is_stopping || now >= one->end_s)) {
			one->state = STATE_CLOSING;
			one->since_s = now;
			one->is_worried = 0;
			shutdown(one->fd, SHUT_WR);
		} else if (!one->waiting) {
			say_byte(one, now);
		}
		break;
	case STATE_CLOSING:
		if (is_silent)
			end_broken(one, "silent");
		break;
	}
}

static int port_of(int fd)
{
	struct sockaddr_in ours = {0};
	socklen_t bytes = sizeof(ours);

	if (getsockname(fd, (struct sockaddr *)&ours, &bytes))
		fail("getsockname");
	return ntohs(ours.sin_port);
}

static void take_connected(struct connection *one)
{
	socklen_t bytes = sizeof(int);
	int error = 0;

	getsockopt(one->fd, SOL_SOCKET, SO_ERROR, &error, &bytes);
	if (error) {
		refused++;
		leave(one);
		return;
	}
	one->port = port_of(one->fd);
	watch(one->fd, EPOLLIN, one, EPOLL_CTL_MOD);
	one->state = STATE_OPEN;
	open_now++;
	say_byte(one, now_s());
}

static void take_echo(struct connection *one, char byte)
{
	if (!one->waiting || one->state != STATE_OPEN) {
		end_broken(one, "wrong");
	} else if (!one->echo_bytes) {
		one->echo_bytes++;
		if (byte != one->sent)
			end_broken(one, "wrong");
	} else if (one->digit != NO_DIGIT && one->digit != byte) {
		end_broken(one, "wrong");
	} else {
		one->digit = byte;
		one->waiting = 0;
		heard_after(now_s() - one->since_s);
	}
}

static void take_bytes(struct connection *one)
{
	char part[2 * ECHO_BYTES];
	ssize_t bytes = recv(one->fd, part, sizeof(part), 0);

	if (bytes < 0 && errno == EAGAIN)
		return;
	if (bytes < 0) {
		end_broken(one, "reset");
	} else if (!bytes && one->state == STATE_CLOSING) {
		heard_after(now_s() - one->since_s);
		ended++;
		leave(one);
		if (!wish.is_stopping)
			begin(one, now_s());
		return;
	} else if (!bytes) {
		end_broken(one, "closed");
	}
	for (ssize_t i = 0; i < bytes && one->state != STATE_NONE; i++)
		take_echo(one, part[i]);
}

static void take_events(int wait_ms)
{
	struct epoll_event events[EVENTS];
	int ready = epoll_wait(poll_fd, events, EVENTS, wait_ms);

	for (int i = 0; i < ready; i++) {
		struct connection *one = events[i].data.ptr;

		if (one->state == STATE_CONNECTING)
			take_connected(one);
		else if (one->state != STATE_NONE)
			take_bytes(one);
	}
}

static int is_all_done(void)
{
	for (int i = 0; i < wish.count; i++)
		if (connections[i].state != STATE_NONE)
			return 0;
	return 1;
}

static void keep_open(void)
{
	struct pollfd input = {.fd = 0, .events = POLLIN};
	long phase = 0;

	wish.begun_s = now_s();
	while (!wish.is_stopping || !is_all_done()) {
		double due_s = wish.begun_s + phase / (double)PHASES;
		double now = now_s();

		if (now < due_s) {
			take_events((due_s - now) * 1000 + 1);
			continue;
		}
		take_events(0);
		for (int i = phase % PHASES; i < wish.count; i += PHASES)
			take_turn(&connections[i], i, now);
		if (++phase % PHASES)
			continue;
		printf("S %d %lu %lu %lu %lu\n", open_now, ended, broken, refused, late);
		if (poll(&input, 1, 0) > 0)
			wish.is_stopping = 1;
	}
	printf("S %d %lu %lu %lu %lu\n", open_now, ended, broken, refused, late);
	printf("E %.3f\n", longest_pause_s);
}

/* ---- who serves ----------------------------------------------------------------------------- */

struct peer {
	int fd;
	int is_counted;
	double heard_s;
};

static struct peer peers[MAX_FILES];
static uint64_t *counter;

static void let_go(struct peer *peer)
{
	*counter -= peer->is_counted;
	close(peer->fd);
	*peer = (struct peer){0};
}

static void accept_all(int listener)
{
	int fd, yes = 1;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		if (fd >= MAX_FILES)
			fail("too many");
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
		peers[fd] = (struct peer){.fd = fd, .heard_s = now_s()};
		watch(fd, EPOLLIN, &peers[fd], EPOLL_CTL_ADD);
	}
}

static void answer(struct peer *peer, char digit)
{
	char part[16], echo[sizeof(part) * ECHO_BYTES];
	ssize_t bytes = recv(peer->fd, part, sizeof(part), 0);

	if (bytes < 0 && errno == EAGAIN)
		return;
	if (bytes <= 0) {
		let_go(peer);
		return;
	}
	for (ssize_t i = 0; i < bytes; i++) {
		echo[i * ECHO_BYTES] = part[i];
		echo[i * ECHO_BYTES + 1] = digit;
	}
	*counter += !peer->is_counted;
	peer->is_counted = 1;
	peer->heard_s = now_s();
	if (send(peer->fd, echo, bytes * ECHO_BYTES, MSG_NOSIGNAL) < 0)
		let_go(peer);
}

static void let_silent_go(double idle_s)
{
	double now = now_s();

	for (int fd = 0; fd < MAX_FILES; fd++)
		if (peers[fd].fd && now - peers[fd].heard_s > idle_s)
			let_go(&peers[fd]);
}

static void serve(int port, char digit, double idle_s)
{
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port)};
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct epoll_event events[EVENTS];
	double swept_s = now_s();
	int yes = 1;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(listener, (struct sockaddr *)&here, sizeof(here)) || listen(listener, BACKLOG))
		fail("listen");
	watch(listener, EPOLLIN, NULL, EPOLL_CTL_ADD);
	for (;;) {
		int ready = epoll_wait(poll_fd, events, EVENTS, 1000);

		for (int i = 0; i < ready; i++) {
			struct peer *peer = events[i].data.ptr;

			if (!peer)
				accept_all(listener);
			else if (peer->fd)
				answer(peer, digit);
		}
		if (now_s() - swept_s >= 1) {
			let_silent_go(idle_s);
			swept_s = now_s();
		}
	}
}

static void count_in(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT, 0644);

	if (fd < 0 || ftruncate(fd, sizeof(*counter)))
		fail(path);
	counter = mmap(NULL, sizeof(*counter), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (counter == MAP_FAILED)
		fail("mmap");
	*counter = 0;
}

int main(int argc, char **argv)
{
	get_ready();
	if (argc == 6 && !strcmp(argv[1], "serve")) {
		count_in(argv[4]);
		serve(atoi(argv[2]), argv[3][0], atof(argv[5]));
	}
	if (argc != 10 || strcmp(argv[1], "open") ||
	    inet_pton(AF_INET, argv[2], &wish.to.sin_addr) != 1) {
		fprintf(stderr, "see the head of hold.c\n");
		return 2;
	}
	wish.to.sin_port = htons(atoi(argv[3]));
	wish.count = atoi(argv[4]);
	wish.ramp_s = atof(argv[5]);
	wish.life_min_s = atof(argv[6]);
	wish.life_max_s = atof(argv[7]);
	wish.silent_s = atof(argv[8]);
	srand48(atol(argv[9]));
	connections = calloc(wish.count, sizeof(*connections));
	if (!connections)
		fail("calloc");
	keep_open();
	return 0;
}
