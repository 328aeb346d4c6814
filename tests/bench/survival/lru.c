/*
 * Flow memories of bounded size, one a balancer: the least recently used entry goes first. Exact,
 * packet by packet. survival/lru.py calls it; it touches no memory but its arguments, and needs no
 * library.
 *
 * A node is balancer * flows + flow. After all nodes come the heads of the lists, one a balancer,
 * each a ring through its newest (next) to its oldest entry (previous).
 */
#include <stdint.h>

struct memories {
	uint32_t *previous;
	uint32_t *next;
	uint16_t *held;  /* the server that a node remembers; 0: none */
	uint32_t *sizes; /* entries of each balancer */
	uint32_t flows;
	uint32_t balancers;
	uint32_t capacity; /* of each balancer */
};

static inline uint32_t head_of(const struct memories *all, uint32_t node)
{
	return all->flows * all->balancers + node / all->flows;
}

static inline void unlink_node(struct memories *all, uint32_t node)
{
	uint32_t previous = all->previous[node], next = all->next[node];

	all->next[previous] = next;
	all->previous[next] = previous;
}

static inline void make_newest(struct memories *all, uint32_t node)
{
	uint32_t head = head_of(all, node), first = all->next[head];

	all->next[node] = first;
	all->previous[node] = head;
	all->previous[first] = node;
	all->next[head] = node;
}

static inline void drop(struct memories *all, uint32_t node)
{
	unlink_node(all, node);
	all->held[node] = 0;
	all->sizes[node / all->flows]--;
}

/* What is remembered, else `chosen`; remembered from now on where `track` says so. */
void touch(struct memories *all, const uint32_t *nodes, uint16_t *chosen, const uint8_t *track,
	   uint32_t count)
{
	for (uint32_t at = 0; at < count; at++) {
		uint32_t node = nodes[at];

		if (all->held[node]) {
			chosen[at] = all->held[node];
			unlink_node(all, node);
			make_newest(all, node);
		} else if (track[at]) {
			uint32_t balancer = node / all->flows;

			if (all->sizes[balancer] == all->capacity)
				drop(all, all->previous[head_of(all, node)]);
			all->held[node] = chosen[at];
			all->sizes[balancer]++;
			make_newest(all, node);
		}
	}
}

void forget(struct memories *all, const uint32_t *nodes, uint32_t count)
{
	for (uint32_t at = 0; at < count; at++)
		if (all->held[nodes[at]])
			drop(all, nodes[at]);
}
