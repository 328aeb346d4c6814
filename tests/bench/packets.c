/*
 * Small UDP packets for the benches over veth, at both ends:
 *
 *   packets serve PORT MARK FILE      on a real: takes all, and counts them in FILE; a packet that
 *                                     begins with E goes back, with MARK as its second byte
 *   packets send ADDRESS PORT FLOWS RATE SECONDS KIND
 *                                     at a client: KIND E asks for an echo, S for silence
 *
 * The sender is paced by the clock. What it could not send in time it does not send later, so that
 * a pause of the machine is never followed by a burst that no network would have made; it says at
 * the end how many it sent, how many came back, and in how many seconds it sent them.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ECHO          'E'
#define PAYLOAD_BYTES 18 /* Ethernet's smallest frame, by IPv4 */
#define AT_ONCE       64
#define TRAIN         16        /* packets of one flow, one after the other */
#define LATE_MAX      64        /* packets: what was due longer ago is given up */
#define BUFFER_BYTES  (8 << 20) /* a few milliseconds without a core lose nothing here */
#define FLOWS_MAX     4096
#define QUIET_MS      100 /* after the last answer */
#define CONTROL_BYTES CMSG_SPACE(sizeof(struct in6_pktinfo))

static int flows[FLOWS_MAX];
static uint64_t answered;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static int open_socket(void)
{
	int fd = socket(AF_INET6, SOCK_DGRAM, 0);
	int bytes = BUFFER_BYTES;
	int off = 0;

	if (fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)))
		fail("socket");
	return fd;
}

static uint64_t *map_counter(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT, 0644);
	uint64_t *counter;

	if (fd < 0 || ftruncate(fd, sizeof(*counter)))
		fail(path);
	counter = mmap(NULL, sizeof(*counter), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (counter == MAP_FAILED)
		fail(path);
	close(fd);
	return counter;
}

/* An answer leaves from the address that was asked, a VIP too: the control message says which. */
static int serve(uint16_t port, char mark, uint64_t *counter)
{
	static struct sockaddr_in6 clients[AT_ONCE];
	static char control[AT_ONCE][CONTROL_BYTES];
	static char payloads[AT_ONCE][PAYLOAD_BYTES];
	static struct mmsghdr taken[AT_ONCE];
	static struct mmsghdr answers[AT_ONCE];
	static struct iovec parts[AT_ONCE];
	struct sockaddr_in6 own = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int fd = open_socket();
	int on = 1;

	if (bind(fd, (struct sockaddr *)&own, sizeof(own)) ||
	    setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on)))
		fail("bind");
	for (;;) {
		int count;
		int echoes = 0;

		for (int i = 0; i < AT_ONCE; i++) {
			parts[i] = (struct iovec){payloads[i], PAYLOAD_BYTES};
			taken[i].msg_hdr = (struct msghdr){
				.msg_name = &clients[i],
				.msg_namelen = sizeof(clients[i]),
				.msg_iov = &parts[i],
				.msg_iovlen = 1,
				.msg_control = control[i],
				.msg_controllen = CONTROL_BYTES,
			};
		}
		count = recvmmsg(fd, taken, AT_ONCE, MSG_WAITFORONE, NULL);
		if (count < 0)
			fail("recvmmsg");
		*(volatile uint64_t *)counter += count;
		for (int i = 0; i < count; i++) {
			struct cmsghdr *said = CMSG_FIRSTHDR(&taken[i].msg_hdr);

			if (payloads[i][0] != ECHO || !said)
				continue;
			((struct in6_pktinfo *)CMSG_DATA(said))->ipi6_ifindex = 0;
			payloads[i][1] = mark;
			parts[i].iov_len = taken[i].msg_len;
			answers[echoes++].msg_hdr = taken[i].msg_hdr;
		}
		for (int sent = 0; sent < echoes;) {
			int some = sendmmsg(fd, answers + sent, echoes - sent, 0);

			/* One that cannot go, because its client has gone, takes no other with it.
			 */
			sent += some > 0 ? some : 1;
		}
	}
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

/* Counts what comes back, until nothing has for a while after `last`. */
static void *count_answers(void *last)
{
	static char payloads[AT_ONCE][PAYLOAD_BYTES];
	struct epoll_event events[AT_ONCE];
	struct mmsghdr taken[AT_ONCE] = {};
	struct iovec parts[AT_ONCE];
	int poll = epoll_create1(0);

	for (int i = 0; i < AT_ONCE; i++) {
		parts[i] = (struct iovec){payloads[i], PAYLOAD_BYTES};
		taken[i].msg_hdr.msg_iov = &parts[i];
		taken[i].msg_hdr.msg_iovlen = 1;
	}
	for (int i = 0; i < FLOWS_MAX && flows[i]; i++) {
		struct epoll_event wanted = {.events = EPOLLIN, .data.fd = flows[i]};

		if (epoll_ctl(poll, EPOLL_CTL_ADD, flows[i], &wanted))
			fail("epoll_ctl");
	}
	for (;;) {
		int ready = epoll_wait(poll, events, AT_ONCE, QUIET_MS);

		if (ready <= 0 && __atomic_load_n((int *)last, __ATOMIC_ACQUIRE))
			return NULL;
		for (int i = 0; i < ready; i++) {
			int count = recvmmsg(events[i].data.fd, taken, AT_ONCE, MSG_DONTWAIT, NULL);

			answered += count > 0 ? count : 0;
		}
	}
}

static void open_flows(const char *address, uint16_t port, int count)
{
	struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	char mapped[64];

	snprintf(mapped, sizeof(mapped), strchr(address, ':') ? "%s" : "::ffff:%s", address);
	if (inet_pton(AF_INET6, mapped, &to.sin6_addr) != 1 || count < 1 || count > FLOWS_MAX) {
		fprintf(stderr, "to %s by %d flows: no address, or too many\n", address, count);
		exit(2);
	}
	for (int i = 0; i < count; i++) {
		flows[i] = open_socket();
		if (connect(flows[i], (struct sockaddr *)&to, sizeof(to)))
			fail("connect");
	}
}

/* Packets sent; `took_ns` is from the first to the last. */
static uint64_t send_paced(int count, double rate, double seconds, char kind, uint64_t *took_ns)
{
	char payload[PAYLOAD_BYTES] = {kind};
	struct iovec part = {payload, PAYLOAD_BYTES};
	struct mmsghdr train[TRAIN] = {};
	double a_packet_ns = 1e9 / rate;
	uint64_t begun_ns = now_ns();
	uint64_t end_ns = begun_ns + (uint64_t)(seconds * 1e9);
	double due_ns = begun_ns; /* when the next train is due */
	uint64_t sent = 0;
	uint64_t at_ns;

	for (int i = 0; i < TRAIN; i++) {
		train[i].msg_hdr.msg_iov = &part;
		train[i].msg_hdr.msg_iovlen = 1;
	}
	for (int flow = 0; (at_ns = now_ns()) < end_ns; flow = (flow + 1) % count) {
		int some;

		if (at_ns < due_ns) {
			struct timespec until = {(uint64_t)due_ns / 1000000000,
						 (uint64_t)due_ns % 1000000000};

			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
		} else if (at_ns - due_ns > LATE_MAX * a_packet_ns) {
			due_ns = at_ns - LATE_MAX * a_packet_ns;
		}
		some = sendmmsg(flows[flow], train, TRAIN, 0);
		if (some < 0)
			fail("sendmmsg");
		sent += some;
		due_ns += some * a_packet_ns;
	}
	*took_ns = at_ns - begun_ns;
	return sent;
}

static void send_all(int count, double rate, double seconds, char kind)
{
	pthread_t receiver;
	uint64_t took_ns;
	uint64_t sent;
	int last = 0;

	prctl(PR_SET_TIMERSLACK, 1); /* ns: the pace is ours, not rounded to 50 us */
	if (kind == ECHO && pthread_create(&receiver, NULL, count_answers, &last))
		fail("pthread_create");
	sent = send_paced(count, rate, seconds, kind, &took_ns);
	__atomic_store_n(&last, 1, __ATOMIC_RELEASE);
	if (kind == ECHO)
		pthread_join(receiver, NULL);
	printf("{\"sent\": %lu, \"answered\": %lu, \"seconds\": %.6f}\n", sent, answered,
	       took_ns / 1e9);
}

int main(int argc, char **argv)
{
	if (argc == 5 && !strcmp(argv[1], "serve"))
		return serve(atoi(argv[2]), argv[3][0], map_counter(argv[4]));
	if (argc == 8 && !strcmp(argv[1], "send")) {
		open_flows(argv[2], atoi(argv[3]), atoi(argv[4]));
		send_all(atoi(argv[4]), atof(argv[5]), atof(argv[6]), argv[7][0]);
		return 0;
	}
	fprintf(stderr, "packets serve PORT MARK FILE\n"
			"packets send ADDRESS PORT FLOWS RATE SECONDS KIND\n");
	return 2;
}
