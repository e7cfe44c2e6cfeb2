/*
 * doctor/probe.h - may these credentials do what Postern does? Asked by calls that AWS refuses for
 * another reason once it has found them allowed: mails to what is no address, a message deleted by
 * a handle that none has.
 *
 * SHAPE   What is denied is noted in the patient. An answer of any other kind means: allowed, or not
 *         come that far. So what is noted is certain; what is not, is likely.
 * SOURCE  spec/aws.md §5 "SendEmail", §9, §10.
 */
#ifndef DOCTOR_PROBE_H
#define DOCTOR_PROBE_H

#include "doctor/patient.h"

void probe_permissions(struct patient *p);

/* "sqs:DeleteMessage", and on what. (doctor/patient.c) */
void patient_note_denied(struct patient *p, const char *permission, const char *what);

#endif
