/*
 * doctor/redrive.h - puts the messages of a dead-letter queue back where they came from.
 *
 * SHAPE   SQS moves them itself, in the background (StartMessageMoveTask): what is started goes on
 *         whatever becomes of this process. One task at a time for a queue.
 * ENDS    A process of its own: it blocks.
 * ERRORS  -1 and *err: which call was refused, and which permission is missing.
 * SOURCE  spec/aws.md §9; SQS's API reference, StartMessageMoveTask.
 */
#ifndef DOCTOR_REDRIVE_H
#define DOCTOR_REDRIVE_H

#include "doctor/patient.h"

/* How many messages wait there, about. */
uint64_t redrive_waiting(const struct patient_queue *q);
/* The name of the dead-letter queue that was seen; "" = none. */
const char *redrive_name(const struct patient_queue *q);

/* From the queue's dead-letter queue, which was seen, to the queue. */
int redrive_start(struct patient *p, const struct patient_queue *q, struct err *err);

#endif
