/*
 * What the programs of a real server agree on.
 */
#pragma once

#define MAX_BOUND_VIPS 16384
