/*
 * Small requests by many concurrent flows, for the benches over veth:
 *
 *   flows ADDRESS PORT FLOWS SECONDS
 *
 * Opens that many connections, some at a time so that no queue for new ones overflows, and has one
 * answer by each before it says "ready" and waits for a line: nothing of the opening is in the
 * figure. Then each flow asks again as soon as it has its answer, until the time is up. Says how
 * many answers came from each real, which is what the last byte of an answer tells.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define OPENING_AT_ONCE 128
#define PATIENCE_S      40 /* a stuck flow ends the program, and so the bench */
#define SPARE_FILES     16
#define REALS           10
#define BODY            "real" /* and one digit */
#define BODY_BYTES      (sizeof(BODY) - 1 + 1)
#define REQUEST         "GET / HTTP/1.1\r\nHost: bench\r\n\r\n"

struct flow {
	int fd;
	char tail[BODY_BYTES]; /* the last bytes that came: all of the body, once it is there */
};

static struct sockaddr_in to = {.sin_family = AF_INET};
static unsigned long answers[REALS];
static struct flow *flows;
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
	return now.tv_sec + now.tv_nsec / 1e9;
}

static void ask(struct flow *flow)
{
	memset(flow->tail, 0, sizeof(flow->tail));
	if (send(flow->fd, REQUEST, sizeof(REQUEST) - 1, MSG_NOSIGNAL) != sizeof(REQUEST) - 1)
		fail("send");
}

/* It closes by a reset, so that thousands of ports are free again at once, here and at the peers.
 */
static void open_flow(struct flow *flow)
{
	struct epoll_event wanted = {.events = EPOLLOUT, .data.ptr = flow};
	struct linger reset = {.l_onoff = 1};

	flow->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (flow->fd < 0 || setsockopt(flow->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)))
		fail("socket");
	if (connect(flow->fd, (struct sockaddr *)&to, sizeof(to)) && errno != EINPROGRESS)
		fail("connect");
	if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, flow->fd, &wanted))
		fail("epoll_ctl");
}

/* The digit of the real that has answered in full; -1 while there is more to come. */
static int read_answer(struct flow *flow)
{
	char part[4096];
	ssize_t bytes = recv(flow->fd, part, sizeof(part), 0);

	if (bytes < 0 && errno == EAGAIN)
		return -1;
	if (bytes <= 0)
		fail(bytes ? "recv" : "a flow was closed: recv");
	if ((size_t)bytes >= sizeof(flow->tail)) {
		memcpy(flow->tail, part + bytes - sizeof(flow->tail), sizeof(flow->tail));
	} else {
		memmove(flow->tail, flow->tail + bytes, sizeof(flow->tail) - bytes);
		memcpy(flow->tail + sizeof(flow->tail) - bytes, part, bytes);
	}
	if (memcmp(flow->tail, BODY, sizeof(BODY) - 1))
		return -1;
	return (flow->tail[BODY_BYTES - 1] - '0') % REALS;
}

/* What happens within `wait_ms`; answers are counted, and asked for again if so told. */
static int turn(int wait_ms, int again)
{
	struct epoll_event events[256];
	int ready = epoll_wait(poll_fd, events, 256, wait_ms);
	int done = 0;

	for (int i = 0; i < ready; i++) {
		struct flow *flow = events[i].data.ptr;
		int real;

		if (events[i].events & EPOLLOUT) {
			struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = flow};

			epoll_ctl(poll_fd, EPOLL_CTL_MOD, flow->fd, &wanted);
			ask(flow);
			continue;
		}
		real = read_answer(flow);
		if (real < 0)
			continue;
		answers[real]++;
		done++;
		if (again)
			ask(flow);
	}
	return done;
}

static void open_all(int count)
{
	int opened = 0;

	for (int ready = 0; ready < count;) {
		while (opened < count && opened - ready < OPENING_AT_ONCE)
			open_flow(&flows[opened++]);
		ready += turn(1000, 0);
	}
}

static double ask_all(int count, double seconds)
{
	double begun_s = now_s();
	int asked = 0;
	double at_s;

	memset(answers, 0, sizeof(answers));
	while ((at_s = now_s()) < begun_s + seconds) {
		for (int i = 0; i < OPENING_AT_ONCE && asked < count; i++)
			ask(&flows[asked++]);
		turn(asked < count ? 0 : 10, 1);
	}
	return at_s - begun_s;
}

int main(int argc, char **argv)
{
	int count = argc == 5 ? atoi(argv[3]) : 0;
	struct rlimit files = {count + SPARE_FILES, count + SPARE_FILES};
	double took_s;

	if (count < 1 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) {
		fprintf(stderr, "flows ADDRESS PORT FLOWS SECONDS\n");
		return 2;
	}
	to.sin_port = htons(atoi(argv[2]));
	flows = calloc(count, sizeof(*flows));
	poll_fd = epoll_create1(0);
	if (!flows || poll_fd < 0 || setrlimit(RLIMIT_NOFILE, &files))
		fail("setrlimit");
	alarm(PATIENCE_S);
	open_all(count);
	puts("ready");
	fflush(stdout);
	if (getchar() == EOF)
		return 1;
	took_s = ask_all(count, atof(argv[4]));
	printf("{\"seconds\": %.6f, \"answers\": [%lu", took_s, answers[0]);
	for (int real = 1; real < REALS; real++)
		printf(", %lu", answers[real]);
	printf("]}\n");
	return 0;
}
