/* SPDX-License-Identifier: Apache-2.0 */
/* proc/pressure: how much of the time somebody on this host has waited for a resource. Kernels from 4.20 on;
 * the kernel's Documentation/accounting/psi.rst. */
#ifndef PROC_PRESSURE_H
#define PROC_PRESSURE_H

enum pressure_of { PRESSURE_CPU, PRESSURE_MEMORY };

/* "some avg10" in hundredths of a percent, or -errno: the kernel does not tell. */
int pressure_avg10(enum pressure_of what);

#endif
