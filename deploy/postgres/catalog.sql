-- Whatever the server's own encoding is: names of tables and places are Unicode.
CREATE DATABASE catalog ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0;
