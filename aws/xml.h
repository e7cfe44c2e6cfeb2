/*
 * aws/xml.h - one text out of an XML document, for the answers of AWS's Query protocol.
 *
 * SHAPE   A small strict reader: elements that nest, attributes (passed over), the five named
 *         entities and numeric ones, comments, CDATA, a declaration in front. Prefixes of names are
 *         ignored. No document type: what has one is refused, and with it every entity of its own.
 * MEMORY  Reads in place, to a depth of XML_DEPTH_MAX, without recursion.
 * ERRORS  Anything that is no well-formed document is one: nothing is taken from it.
 * SOURCE  XML 1.0 §2, §3.1, §4.6.
 */
#ifndef AWS_XML_H
#define AWS_XML_H

#include "base/buf.h"

enum { XML_DEPTH_MAX = 16 };

enum xml_result { XML_FOUND, XML_ABSENT, XML_BROKEN };

/* Appends the text of the first element at this path, as "A/B/C" from the root on, its entities
 * resolved; the texts of its children do not belong to it. A name may be counted: of "A/B[2]/C" it is
 * the C of the second B; names that are not counted stand for any. The whole document is read, whatever
 * comes first. After ABSENT and BROKEN *text is as it was. */
enum xml_result xml_text(struct slice document, const char *path, struct buf *text);

#endif
