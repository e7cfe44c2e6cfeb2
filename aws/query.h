/*
 * aws/query.h - AWS's Query protocol, which SNS, STS and IAM speak: forms out, XML in.
 *
 * MEMORY  Forms go to the caller's buf. Trees are the caller's: json_free().
 * ERRORS  query_map() gives an empty object for what is not there or no XML.
 * SOURCE  spec/aws.md §8; IAM and STS: the API references' "Query" forms and answers.
 */
#ifndef AWS_QUERY_H
#define AWS_QUERY_H

#include "aws/http.h"
#include "aws/xml.h"
#include "base/buf.h"
#include "base/json.h"

/* Action and version of AWS_SNS, AWS_STS or AWS_IAM; then one field after another. */
void query_begin(struct buf *form, enum aws_service service, const char *action);
void query_add(struct buf *form, const char *name, struct slice value);
/* "Attributes.entry.N.key" and "…value". */
void query_add_entry(struct buf *form, const char *list, unsigned n, const char *key,
                     struct slice value);

/* Fills in service, method, path, content type and body; timeout and callback are the caller's. */
void query_request(struct aws_request *r, enum aws_service service, struct slice form);

/* The texts of a list of pairs as one object of strings: in "…Result/Attributes" (path) the elements
 * "entry" with "key" and "value". */
cJSON *query_map(struct slice document, const char *path, const char *element, const char *key,
                 const char *value);

/* Text of the n-th (from 1) "element" within path, then its child (NULL = the element's own).
 * False: there is none. *text is emptied first. */
bool query_member(struct slice document, const char *path, const char *element, unsigned n,
                  const char *child, struct buf *text);

#endif
