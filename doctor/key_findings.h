/*
 * doctor/key_findings.h - can the clients of a domain come in, and does proxy.conf say the same of keys
 * as the store does?
 */
#ifndef DOCTOR_KEY_FINDINGS_H
#define DOCTOR_KEY_FINDINGS_H

#include "base/config.h"
#include "doctor/finding.h"
#include "store/store.h"

/* t: NULL = there is no store yet, and nothing was added or withdrawn. */
void find_keys(struct finding *f, struct store_txn *t, const struct config *config,
               const struct config_domain *domain);

#endif
